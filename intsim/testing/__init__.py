"""Property tests of your own kernels, RTL simulations and exporters against intsim. Needs `hypothesis`.

check_dot_product   a dot product kernel against a target's registers
check_requantizer   a requantizer kernel against a scheme
check_executor      something that runs QONNX models against `intsim.run`

Strategies for tests of your own: `integer_types`, `integers_of`, `accumulators`, `scales`, `stages`, `packings`,
`registers`, `requantizers`, `targets`, `sampled_targets`, `dot_products`, `qonnx_models`; `weighted` makes arrays. Half
of what they draw lies at 0, +-2^k, +-2^k+-1, the ends of a range, or on a tie. `docs/testing.md` shows their use.
"""

try:
    import hypothesis as _  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('intsim.testing needs hypothesis: pip install "intsim[test]"') from error

from intsim.testing.checks import (
    Checked,
    CounterexampleError,
    Requantization,
    check_dot_product,
    check_requantizer,
)
from intsim.testing.dots import DotProduct, defined, dot_products
from intsim.testing.executor import check_executor
from intsim.testing.graphs import QonnxCase, qonnx_models
from intsim.testing.machines import packings, registers, requantizers, sampled_targets, stages, targets
from intsim.testing.values import accumulators, integer_types, integers_of, scales, weighted

__all__ = [
    "Checked",
    "CounterexampleError",
    "DotProduct",
    "QonnxCase",
    "Requantization",
    "accumulators",
    "check_dot_product",
    "check_executor",
    "check_requantizer",
    "defined",
    "dot_products",
    "integer_types",
    "integers_of",
    "packings",
    "qonnx_models",
    "registers",
    "requantizers",
    "sampled_targets",
    "scales",
    "stages",
    "targets",
    "weighted",
]
