"""Faults in float islands, and in what the front end writes out: thresholds, recurrent cells, windows."""

from .planting import Fault

_ISLANDS = "tests/frontend/test_islands.py"
_FINN = "tests/frontend/test_finn.py"

FAULTS = [
    Fault(
        "zero-point-of-run-time-added",
        "what the zero point takes off the sums is added to them",
        "ZeroPoint.evaluate",
        'arrays[0] - arrays[1] * node.arrays["weights"]',
        'arrays[0] + arrays[1] * node.arrays["weights"]',
        "tests/ops/test_elementwise.py::test_zero_point",
        slow=True,
    ),
    Fault(
        "dynamic-range-without-zero",
        "DynamicQuantizeLinear takes the range of the data, which need not hold 0",
        "DynamicQuantizeLinear.run",
        "(f(x, initial=np.float32(0)) for f in (np.min, np.max))",
        "(f(x) for f in (np.min, np.max))",
        f"{_ISLANDS}::test_dynamic_quantizer_is_onnx_runtimes",
        slow=True,
    ),
    Fault(
        "dynamic-zero-point-cut",
        "DynamicQuantizeLinear cuts the fraction of its zero point instead of rounding it",
        "DynamicQuantizeLinear.run",
        "np.rint(np.clip(np.float32(0) - low / scale, 0, 255))",
        "np.trunc(np.clip(np.float32(0) - low / scale, 0, 255))",
        f"{_ISLANDS}::test_dynamic_quantizer_is_onnx_runtimes",
        slow=True,
    ),
    Fault(
        "islands-are-certified",
        "a network with float islands is certified as a whole",
        "prove",
        'said.add("hybrid")',
        'said.add("certified")',
        f"{_ISLANDS}::test_verdicts_are_hybrid",
        slow=True,
    ),
    Fault(
        "threshold-exceeded",
        "a number that equals a threshold doesn't reach it",
        "reached",
        'np.searchsorted(thresholds.reshape(-1), x, side="right")',
        'np.searchsorted(thresholds.reshape(-1), x, side="left")',
        f"{_FINN}::test_thresholds_of_integers_and_of_inputs",
        slow=True,
    ),
    Fault(
        "bits-counted-as-signs",
        "XnorPopcountMatMul gives the product of the signs, not how many bits are equal",
        "xnor_popcount",
        "spread(half * a.shape[-1], rank)",
        "spread(ZERO, rank)",
        f"{_FINN}::test_binary_products",
        slow=True,
    ),
    Fault(
        "tile-repeats-elements",
        "Tile repeats each element instead of the whole tensor",
        "tile",
        "np.tile(np.arange(x.shape[axis]), count)",
        "np.repeat(np.arange(x.shape[axis]), count)",
        "tests/frontend/test_movement.py::test_tile",
        slow=True,
    ),
    Fault(
        "windows-without-dilation",
        "a convolution of two tensors forgets its dilations",
        "window_positions",
        "np.arange(kernel[i])[:, None] * dilations[i]",
        "np.arange(kernel[i])[:, None]",
        "tests/frontend/test_linear.py::test_convolution_of_two_tensors",
        slow=True,
    ),
    Fault(
        "cell-never-reversed",
        "a recurrent cell that reads its sequence from the end reads it from the start",
        "Cell.steps",
        'reversed(steps) if self.at.get("reverse_input", 0) else steps',
        "steps",
        "tests/frontend/test_lstm.py::test_a_cell_written_out",
        slow=True,
    ),
]
