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

_BOUNDS = [
    Fault(
        "any-order-without-compensation",
        "the any-order bound forgets sums in which the compensation of zero points stands already",
        "intsim/ops/any_order.py",
        "reached = np.maximum(without, bias + with_late)",
        "reached = np.maximum(without, without + bias)",
        "tests/proofs/test_tightness.py::test_all_inputs_and_orders_of_tiny_layers",
    ),
    Fault(
        "own-order-without-prefixes",
        "the bound in a target's own order is that of the finished sum",
        "intsim/ops/any_order.py",
        "own = np.maximum(np.maximum(start + prefix, final), 0)",
        "own = np.maximum(final, 0)",
        "tests/proofs/test_tightness.py::test_a_late_bias_of_the_other_sign",
    ),
    Fault(
        "padding-outside-the-range",
        "padding with a value outside the input's range is taken for one inside",
        "intsim/ops/padding_patterns.py",
        "keep = _maximal(masks) if dominated else np.ones(len(masks), bool)",
        "keep = _maximal(masks)",
        "tests/proofs/test_tightness.py::test_padding_that_extends_the_range",
    ),
    Fault(
        "a2q-without-sign-bit",
        "A2Q is said to grant a width that is one bit short",
        "intsim/proofs/budgets.py",
        "return (l1 << (input_bits - int(signed))).bit_length() + 1",
        "return (l1 << (input_bits - int(signed))).bit_length()",
        "tests/proofs/test_bounds.py::test_budgets_against_their_formulas",
    ),
    Fault(
        "a2q-plus-for-all-weights",
        "A2Q+ is said to grant its widths to weights whose positive and negative parts differ",
        "intsim/proofs/budgets.py",
        "(norms + abs(sums)).max(axis=0)",
        "norms.max(axis=0)",
        "tests/proofs/test_bounds.py::test_ranges_never_ask_for_more_than_budgets_grant",
    ),
    Fault(
        "every-bound-is-tight",
        "a bound that no input attains is said to be attained",
        "intsim/proofs/tightness.py",
        "return self.value == self.bound",
        "return True",
        "tests/proofs/test_tightness.py::test_a_tensor_times_itself_is_said_not_to_attain",
    ),
]

_EXPLORE = [
    Fault(
        "sweep-rules-swapped",
        "a sweep takes saturating layers for unchanged after transient overflow, and wrapping ones for changed",
        "intsim/explore/evaluation.py",
        'counts.final if stage.overflow == "wrap" else counts.partial',
        'counts.partial if stage.overflow == "wrap" else counts.final',
        "tests/explore/test_evaluation.py::test_nothing_runs_that_one_pass_answers",
    ),
    Fault(
        "sweep-bias-of-the-requantizer-forgotten",
        "a sweep keeps codes whose requantizer's bias wraps in the narrower register",
        "intsim/explore/evaluation.py",
        'elif node.op == "requantize" and target.form.scheme not in EXACT_SCHEMES:',
        'elif node.op == "requantize" and target.form.scheme == "none":',
        "tests/explore/test_evaluation.py::test_the_bias_of_a_requantizer_meets_the_narrow_register",
    ),
    Fault(
        "sweep-proof-outside-its-range",
        "a sweep trusts a proof for inputs that an overflow before has moved out of their proven range",
        "intsim/explore/evaluation.py",
        "return None if proofs.get(node.name) and inside else",
        "return None if proofs.get(node.name) else",
        "tests/explore/test_evaluation.py::test_a_proof_does_not_cover_what_an_overflow_before_makes",
    ),
    Fault(
        "sweep-goes-on-with-other-inputs",
        "rows of other inputs are taken for those of this sweep",
        "intsim/explore/ledger.py",
        "not isinstance(found, dict) or found.get(k) != head[k]",
        'k != "inputs" and (not isinstance(found, dict) or found.get(k) != head[k])',
        "tests/explore/test_sweep.py::test_rows_of_another_sweep_are_refused",
    ),
]

_REQUANTIZERS = [
    Fault(
        "certificate-blind-to-a-wrapped-bias",
        "a requantizer whose bias wraps is certified equal",
        "intsim/proofs/segments.py",
        "for a, b in _cut(first, last, bias, period):",
        "for a, b in _cut(first, last, bias, 0):",
        "tests/proofs/test_requantizers.py::test_a_bias_that_wraps",
    ),
    Fault(
        "certificate-blind-to-a-left-shift",
        "a requantizer whose left shift wraps is certified equal",
        "intsim/proofs/segments.py",
        "1 << (32 - left) if 0 < left < 32 else 0",
        "0",
        "tests/proofs/test_requantizers.py::test_a_left_shift_that_wraps",
    ),
    Fault(
        "certificate-looks-at-one-function",
        "an interval counts as constant where the exact codes still step",
        "intsim/proofs/steps.py",
        "constant = (f[0] == f[1]) & (s[0] == s[1])",
        "constant = f[0] == f[1]",
        "tests/proofs/test_requantizers.py::test_the_answer_needs_no_guess",
    ),
    Fault(
        "certificate-trusts-a-range-beyond-the-register",
        "accumulators that a register wraps around to are left out",
        "intsim/proofs/reach.py",
        "if low[c] < last.min or high[c] > last.max:",
        "if low[c] < last.min and high[c] > last.max:",
        "tests/proofs/test_requantizers.py::test_channels_have_ranges_of_their_own",
    ),
    Fault(
        "certificate-equal-though-undecided",
        "a cell with too many steps counts as equal",
        "intsim/proofs/requantizers.py",
        "equal = not open_ and not any(c.count for c in cells)",
        "equal = not any(c.count for c in cells)",
        "tests/proofs/test_requantizers.py::test_too_many_combinations_stay_undecided",
    ),
]

_CERTIFICATES = [
    Fault(
        "certified-although-sums-go-wrong",
        "a layer for which a wrong sum is known is certified",
        "intsim/proofs/certify.py",
        "            if not layer.holds:\n",
        "            if layer.undecided:\n",
        "tests/proofs/test_certify.py::test_one_layer_is_certified_if_and_only_if_no_input_is_wrong",
    ),
    Fault(
        "tried-beside-some-padding",
        "all inputs of one row are tried, and a row whose taps meet other padding counts as tried",
        "intsim/proofs/site.py",
        "wanted = set(found.rows.tolist())",
        "wanted = set(found.rows.tolist()[:1])",
        "tests/proofs/test_certify.py::test_padding_does_not_hide_an_input",
    ),
    Fault(
        "prediction-without-compensation",
        "the compensation of a weight's zero point is left out of a predicted sum",
        "intsim/proofs/site.py",
        "- zeros * x.astype(object).sum(axis=1)",
        "",
        "tests/proofs/test_counterexample.py::test_prediction_is_what_the_engine_does",
    ),
    Fault(
        "check-believes-counterexamples",
        "a counterexample that does not show the integer it states is confirmed",
        "intsim/proofs/replay.py",
        '"expected": (stated.expected, int(right[at])),',
        '"expected": (stated.expected, stated.expected),',
        "tests/test_cli_certify.py::test_a_changed_certificate_is_not_confirmed",
    ),
    Fault(
        "check-believes-requantizers",
        "claims about requantizers are not compared with what is computed again",
        "intsim/proofs/check.py",
        'for key in ("intsim", "samples", "digest"):',
        'for key in ("intsim", "samples", "digest", "requantizers"):',
        "tests/proofs/test_certify.py::test_removed_and_added_parts_are_noticed",
    ),
    Fault(
        "certify-exit-code",
        "the command line ends with 0 although something stands between",
        "intsim/cli/certify.py",
        "raise typer.Exit(0 if found.holds else 1)",
        "raise typer.Exit(0)",
        "tests/test_cli_certify.py::test_open_and_refuted",
    ),
]

_TESTING = [
    Fault(
        "counterexample-not-shortened",
        "a counterexample of a kernel has hundreds of terms instead of two",
        "intsim/testing/smallest.py",
        "case = _smaller_values(_fewer_terms(case, still), still)",
        "case = _smaller_values(case, still)",
        "tests/testing/test_checks.py::test_the_counterexample_is_small_and_whole",
    ),
    Fault(
        "one-right-lane-is-enough",
        "a packed kernel passes if any of its products is right",
        "intsim/testing/checks.py",
        "bool((values == wanted).all())",
        "bool((values == wanted).any())",
        "tests/testing/test_checks.py::test_a_packed_kernel",
    ),
    Fault(
        "executor-off-by-a-code",
        "an executor passes although its codes are one off",
        "intsim/testing/executor.py",
        "allowed = np.maximum(allowed, unit / 4)",
        "allowed = np.maximum(allowed, unit * 4)",
        "tests/testing/test_checks.py::test_an_executor_passes_and_a_wrong_one_is_found",
    ),
    Fault(
        "tosa-nudge-from-shift-33",
        "TOSA's double rounding of a scale that shifts by 32 is one off at times",
        "intsim/arithmetic/tosa.py",
        "if double_round and shift > 31:",
        "if double_round and shift > 32:",
        "tests/trust/test_requantizers.py::test_a_requantizer_is_its_dumb_twin[tosa, 32 bits, double rounding]",
    ),
]

FAULTS = (*_REFERENCE, *_REQUANTIZERS, *_VERDICTS, *_PROOFS_AND_FILES, *_BOUNDS, *_EXPLORE, *_CERTIFICATES, *_TESTING)
