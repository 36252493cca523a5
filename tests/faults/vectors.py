"""Faults in golden vectors: what files hold, in which order, and where a dump differs."""

from .planting import Fault

FAULTS = (
    Fault(
        "vectors-first-element-high",
        "words of a bus hold their first element in the highest bits",
        "packed",
        "full.reshape(rows * words, per * bits)",
        "full.reshape(rows * words, per, bits)[:, ::-1].reshape(rows * words, per * bits)",
        "tests/golden/test_formats.py::test_words_of_a_bus",
    ),
    Fault(
        "vectors-channels-not-last",
        "vectors in order NHWC are in order NCHW",
        "of_data",
        "(0, *range(2, rank), 1)",
        "(*range(rank),)",
        "tests/golden/test_vectors.py::test_orders",
        slow=True,
    ),
    Fault(
        "vectors-even-sums",
        "accumulators in the files have lost their lowest bit",
        "steps",
        "run_alone(graph, node, arrays, runs.arithmetic(node))[0]",
        "run_alone(graph, node, arrays, runs.arithmetic(node))[0] & (-2 if 'weight' in node.arrays else -1)",
        "tests/golden/test_twin.py::test_narrow_registers_with_a_bias",
        slow=True,
    ),
    Fault(
        "vectors-one-channel-for-all",
        "each channel has the first one's multiplier",
        "of_requantizer",
        "[chosen.constants(f, stages, low, high) for f in cells]",
        "[chosen.constants(cells[0], stages, low, high) for f in cells]",
        "tests/golden/test_twin.py::test_fixed_point_with_every_rule_for_ties",
        slow=True,
    ),
    Fault(
        "trace-without-the-bias",
        "a trace leaves out what is added after the products",
        "Sums.add",
        "np.broadcast_to(block.late, (len(block.panel.a), len(w)))[rows]",
        "None",
        "tests/golden/test_vectors.py::test_registers_and_traces",
        slow=True,
    ),
    Fault(
        "compare-position-of-the-dump",
        "a wrong integer is shown at its place in the dump, as if that were in the network's order",
        "_compared",
        "_first(manifest, golden, at, int(places[at]), int(wanted[at]), int(got[at]))",
        "_first(manifest, golden, at, at, int(wanted[at]), int(got[at]))",
        "tests/golden/test_compare.py::test_orders_and_folds",
        slow=True,
    ),
)
