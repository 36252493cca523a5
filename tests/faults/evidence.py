"""Faults in evidence: the reference evaluator, comparison and blame, proofs, files."""

from .planting import Fault

_REFERENCE = [
    Fault(
        "reference-bound-ignored",
        "the reference lets float64 decide ties",
        "intsim/verify/reference/quantize.py",
        "doubt = np.nonzero(~(codes == _clamped(mode, y + e, low, high)))",
        "doubt = np.nonzero(~(codes == _clamped(mode, y - e, low, high)))",
        "tests/verify/reference/test_quantize.py::test_codes_are_those_of_the_formula_in_every_form",
    ),
    Fault(
        "reference-bound-of-products",
        "a product's error forgets its first factor's error",
        "intsim/verify/reference/arithmetic.py",
        "e = e + ea * (np.abs(vb) + _zero(eb)) * _SLACK",
        "e = e + ea * _zero(eb) * _SLACK",
        "tests/verify/reference/test_arithmetic.py::test_two_tensors_in_every_form",
    ),
    Fault(
        "reference-zero-point-before-rounding",
        "an odd zero point turns the reference's ties the other way",
        "intsim/verify/reference/quantizers.py",
        'quantize(x, scale, _ZERO, first - offset, last - offset, rounding("ROUND"))\n'
        "    codes = np.asarray(codes + offset.astype(codes.dtype))",
        'quantize(x, scale, zero, _limit(first), _limit(last), rounding("ROUND"))',
        "tests/verify/reference/test_quantizers.py::test_quantize_linear_rounds_before_it_adds_the_zero_point",
    ),
    Fault(
        "reference-transposed-kernel-not-mirrored",
        "the reference's ConvTranspose is a convolution with the kernel as it stands",
        "intsim/verify/reference/contraction.py",
        "*(slice(None, None, -1) for _ in kernel))]",
        "*(slice(None) for _ in kernel))]",
        "tests/verify/reference/test_contraction.py::test_transposed_convolution",
    ),
    Fault(
        "reference-epsilon",
        "the reference normalises with the square root of the variance alone",
        "intsim/verify/reference/operators.py",
        'floats(var.fractions()) + np.float64(np.float32(call.attr("epsilon", 1e-5)))',
        "floats(var.fractions())",
        "tests/verify/reference/test_operators.py::test_against_both_witnesses",
    ),
]

_VERDICTS = [
    Fault(
        "blame-categories-swapped",
        "an overflow is blamed on the requantizer, and the other way round",
        "intsim/verify/judge.py",
        'causes[target_left & (requantized == wanted)] = "overflow"\n'
        '            causes[target_left & (requantized != wanted)] = "requantizer"',
        'causes[target_left & (requantized != wanted)] = "overflow"\n'
        '            causes[target_left & (requantized == wanted)] = "requantizer"',
        "tests/verify/test_blame.py::test_a_tie_of_gemmlowp_is_the_requantizers",
    ),
    Fault(
        "first-divergence-blame",
        "the first divergence of an accumulator is blamed on a requantizer",
        "intsim/verify/compare.py",
        '"blame": "overflow" if accumulates else "requantizer"',
        '"blame": "requantizer" if accumulates else "overflow"',
        "tests/verify/test_verify.py::test_three_products_into_16_bits",
    ),
    Fault(
        "first-divergence-is-the-last",
        "the first wrong integer that is shown is the last one",
        "intsim/verify/compare.py",
        "flat = int(np.flatnonzero((a != b).reshape(-1))[0])",
        "flat = int(np.flatnonzero((a != b).reshape(-1))[-1])",
        "tests/faults/test_gaps.py::test_the_first_divergence_is_the_first",
    ),
    Fault(
        "largest-difference-signed",
        "a target that is too low by 9 LSB is reported to be off by less",
        "intsim/verify/compare.py",
        "gap = np.abs(expected[apart].astype(object) - got[apart].astype(object))",
        "gap = got[apart].astype(object) - expected[apart].astype(object)",
        "tests/verify/test_verify.py::test_three_products_into_16_bits",
    ),
    Fault(
        "born-everywhere",
        "every mismatch that a layer inherits is counted as born in it",
        "intsim/verify/verify.py",
        "line.born += difference(local, got)[0] if local is not None else count",
        "line.born += count",
        "tests/verify/test_verify.py::test_a_wrong_integer_is_born_once",
    ),
    Fault(
        "overflow-holds",
        "a verdict with overflows but right integers is reported to hold",
        "intsim/verify/verdict.py",
        'return self.verdict == "exact" and self.overflows == 0',
        'return self.verdict == "exact"',
        "tests/verify/test_verify.py::test_an_overflow_without_a_mismatch_does_not_hold",
    ),
    Fault(
        "exit-code",
        "the command line ends with 0 although a register may overflow",
        "intsim/cli/verbs.py",
        "raise typer.Exit(0 if found.safe else 1)",
        "raise typer.Exit(0)",
        "tests/test_cli.py::test_bounds",
    ),
]

_PROOFS_AND_FILES = [
    Fault(
        "type-bound-without-depth",
        "the data-type bound is that of one product, not of their sum",
        "intsim/proofs/bounds.py",
        "return bits_for(depth * min(corners), depth * max(corners))",
        "return bits_for(min(corners), max(corners))",
        "tests/proofs/test_bounds.py::test_bound_by_types",
    ),
    Fault(
        "bits-without-sign",
        "a proven accumulator width is one bit short",
        "intsim/arithmetic/integers.py",
        "return 1 + max((v if v >= 0 else ~v).bit_length() for v in (int(low), int(high)))",
        "return max((v if v >= 0 else ~v).bit_length() for v in (int(low), int(high)))",
        "tests/arithmetic/test_integers.py::test_bits_for_known_values",
    ),
    Fault(
        "graph-file-drops-a-field",
        "a saved graph forgets which ONNX operator a node came from",
        "intsim/graph.py",
        '        "source_op": node.source_op,\n',
        "",
        "tests/test_graph.py::test_a_changed_node_is_unequal",
    ),
    Fault(
        "graph-file-drops-narrow",
        "a narrow type comes back from a file as a full one",
        "intsim/graph.py",
        '"narrow": kind.narrow}',
        '"narrow": False}',
        "tests/test_graph.py::test_round_trip_is_equal",
    ),
    Fault(
        "verdict-json-drops-a-field",
        "the JSON of a verdict has no first divergence",
        "intsim/verify/verdict.py",
        "        return asdict(self)",
        '        return {k: v for k, v in asdict(self).items() if k != "first_divergence"}',
        "tests/faults/test_gaps.py::test_the_json_of_a_verdict_holds_every_field",
    ),
]

FAULTS = (*_REFERENCE, *_VERDICTS, *_PROOFS_AND_FILES)
