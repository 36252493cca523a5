"""Faults in evidence: the reference evaluator, comparison and blame, proofs, files."""

from .planting import Fault

_REFERENCE = [
    Fault(
        "reference-bound-ignored",
        "the reference lets float64 decide ties",
        "quantize",
        "rule.codes(y + e)",
        "rule.codes(y - e)",
        "tests/verification/reference/test_quantize.py::test_codes_are_those_of_the_formula_in_every_form",
        slow=True,
    ),
    Fault(
        "reference-bound-of-products",
        "a product's error forgets its first factor's error",
        "multiply",
        "np.abs(vb) + (0.0 if eb is None else eb)",
        "0.0 if eb is None else eb",
        "tests/verification/reference/test_arithmetic.py::test_two_tensors_in_every_form",
        slow=True,
    ),
    Fault(
        "reference-zero-point-before-rounding",
        "an odd zero point turns the reference's ties the other way",
        "linear",
        """
        offset = each(float, zero).astype(np.float64)
        codes, undecided, single, x = quantize(x, scale, _ZERO, first - offset, last - offset, ...)
        codes = np.asarray(codes.astype(np.float64) + offset)
        """,
        """
        offset = each(float, zero).astype(np.float64)
        codes, undecided, single, x = quantize(x, scale, zero, _limit(first), _limit(last), ...)
        """,
        "tests/verification/reference/test_quantizers.py::test_quantize_linear_rounds_before_it_adds_the_zero_point",
        slow=True,
    ),
    Fault(
        "reference-transposed-kernel-not-mirrored",
        "the reference's ConvTranspose is a convolution with the kernel as it stands",
        "convolve_transposed.mirror",
        "slice(None, None, -1)",
        "slice(None)",
        "tests/verification/reference/test_contraction.py::test_transposed_convolution",
        slow=True,
    ),
    Fault(
        "reference-epsilon",
        "the reference normalises with the square root of the variance alone",
        "batch_normalization",
        'floats(var.fractions()) + np.float64(np.float32(call.attr("epsilon", 1e-5)))',
        "floats(var.fractions())",
        "tests/verification/reference/test_operators.py::test_against_both_witnesses",
    ),
]

_VERDICTS = [
    Fault(
        "blame-categories-swapped",
        "an overflow is blamed on the requantizer, and the other way round",
        "judge",
        """
        causes[target_left & same] = "overflow"
        causes[target_left & ~same] = "requantizer"
        """,
        """
        causes[target_left & ~same] = "overflow"
        causes[target_left & same] = "requantizer"
        """,
        "tests/verification/test_blame.py::test_a_tie_of_gemmlowp_is_the_requantizers",
        slow=True,
    ),
    Fault(
        "first-divergence-blame",
        "the first divergence of an accumulator is blamed on a requantizer",
        "first_difference",
        '"overflow" if counts.any() else "rounding"',
        '"requantizer" if counts.any() else "rounding"',
        "tests/verification/test_verify.py::test_three_products_into_16_bits",
        slow=True,
    ),
    Fault(
        "first-divergence-is-the-last",
        "the first wrong integer that is shown is the last one",
        "first_apart",
        "np.flatnonzero((expected != got).reshape(-1))[0]",
        "np.flatnonzero((expected != got).reshape(-1))[-1]",
        "tests/faults/test_gaps.py::test_the_first_divergence_is_the_first",
    ),
    Fault(
        "largest-difference-signed",
        "a target that is too low by 9 LSB is reported to be off by less",
        "difference",
        "np.abs(expected[apart].astype(object) - got[apart].astype(object))",
        "got[apart].astype(object) - expected[apart].astype(object)",
        "tests/verification/test_verify.py::test_three_products_into_16_bits",
        slow=True,
    ),
    Fault(
        "born-everywhere",
        "every mismatch that a layer inherits is counted as born in it",
        "_Comparison._compared",
        "difference(local, got)[0] if local is not None else count",
        "count",
        "tests/verification/test_verify.py::test_a_wrong_integer_is_born_once",
        slow=True,
    ),
    Fault(
        "overflow-holds",
        "a verdict with overflows but right integers is reported to hold",
        "Verdict.holds",
        'self.verdict == "exact" and self.overflows == 0',
        'self.verdict == "exact"',
        "tests/verification/test_verify.py::test_an_overflow_without_a_mismatch_does_not_hold",
        slow=True,
    ),
    Fault(
        "exit-code",
        "the command line ends with 0 although a register may overflow",
        "bounds",
        "conclude(asked.json_, content, following, ..., proven.safe)",
        "conclude(asked.json_, content, following, ..., True)",
        "tests/test_cli.py::test_bounds",
    ),
]

_PROOFS_AND_FILES = [
    Fault(
        "type-bound-without-depth",
        "the data-type bound is that of one product, not of their sum",
        "_type_bits",
        "bits_for(depth * min(corners), depth * max(corners))",
        "bits_for(min(corners), max(corners))",
        "tests/proofs/test_bounds.py::test_bound_by_types",
        slow=True,
    ),
    Fault(
        "bits-without-sign",
        "a proven accumulator width is one bit short",
        "bits_for",
        "1 + max((v if v >= 0 else ~v).bit_length() for v in (int(low), int(high)))",
        "max((v if v >= 0 else ~v).bit_length() for v in (int(low), int(high)))",
        "tests/arithmetic/test_integers.py::test_bits_for_known_values",
        slow=True,
    ),
    Fault(
        "graph-file-drops-a-field",
        "a saved graph forgets which ONNX operator a node came from",
        "node_json",
        "node.source_op",
        '""',
        "tests/test_graph.py::test_a_changed_node_is_unequal",
        slow=True,
    ),
    Fault(
        "graph-file-drops-narrow",
        "a narrow type comes back from a file as a full one",
        "tensor_json",
        "kind.narrow",
        "False",
        "tests/test_graph.py::test_round_trip_is_equal",
    ),
    Fault(
        "verdict-json-drops-a-field",
        "the JSON of a verdict has no first divergence",
        "Verdict.to_json",
        '{"format": FORMAT, **held, "overflows": ..., "layers": ...}',
        '{"format": FORMAT, **(held | {"first_divergence": None}), "overflows": ..., "layers": ...}',
        "tests/faults/test_gaps.py::test_the_json_of_a_verdict_holds_every_field",
        slow=True,
    ),
]

_BOUNDS = [
    Fault(
        "any-order-without-compensation",
        "the any-order bound forgets sums in which the compensation of zero points stands already",
        "Addends.greatest",
        "np.maximum(without, bias + with_late)",
        "np.maximum(without, without + bias)",
        "tests/proofs/test_tightness.py::test_all_inputs_and_orders_of_tiny_layers",
        slow=True,
    ),
    Fault(
        "own-order-without-prefixes",
        "the bound in a target's own order is that of the finished sum",
        "Addends.greatest",
        "np.maximum(start + prefix, final)",
        "final",
        "tests/proofs/test_tightness.py::test_a_late_bias_of_the_other_sign",
        slow=True,
    ),
    Fault(
        "padding-outside-the-range",
        "padding with a value outside the input's range is taken for one inside",
        "padding_patterns",
        "_maximal(masks) if dominated else np.ones(len(masks), bool)",
        "_maximal(masks)",
        "tests/proofs/test_tightness.py::test_padding_that_extends_the_range",
        slow=True,
    ),
    Fault(
        "a2q-without-sign-bit",
        "A2Q is said to grant a width that is one bit short",
        "a2q_bits",
        "(l1 << (input_bits - int(signed))).bit_length() + 1",
        "(l1 << (input_bits - int(signed))).bit_length()",
        "tests/proofs/test_bounds.py::test_budgets_against_their_formulas",
        slow=True,
    ),
    Fault(
        "a2q-plus-for-all-weights",
        "A2Q+ is said to grant its widths to weights whose positive and negative parts differ",
        "budget",
        "(norms + abs(sums)).max",
        "norms.max",
        "tests/proofs/test_bounds.py::test_ranges_never_ask_for_more_than_budgets_grant",
        slow=True,
    ),
    Fault(
        "every-bound-is-tight",
        "a bound that no input attains is said to be attained",
        "Witness.attained",
        "self.value == self.bound",
        "True",
        "tests/proofs/test_tightness.py::test_a_tensor_times_itself_is_said_not_to_attain",
    ),
]

_EXPLORE = [
    Fault(
        "sweep-rules-swapped",
        "a sweep takes saturating layers for unchanged after transient overflow, and wrapping ones for changed",
        "harm",
        'counts.final if stage.overflow == "wrap" else counts.partial',
        'counts.partial if stage.overflow == "wrap" else counts.final',
        "tests/explore/test_evaluation.py::test_nothing_runs_that_one_pass_answers",
        slow=True,
    ),
    Fault(
        "sweep-bias-of-the-requantizer-forgotten",
        "a sweep keeps codes whose requantizer's bias wraps in the narrower register",
        "Evaluation.rerun",
        "node.op in LAYER_ENDS and not own.requantize.exact",
        "node.op in LAYER_ENDS and False",
        "tests/explore/test_evaluation.py::test_the_bias_of_a_requantizer_meets_the_narrow_register",
        slow=True,
    ),
    Fault(
        "sweep-proof-outside-its-range",
        "a sweep takes the ranges of exact arithmetic for what layers behind an overflow see",
        "Evaluation.proofs",
        "held(self.graph, target)",
        "self.graph.tensors",
        "tests/explore/test_evaluation.py::test_a_proof_covers_what_an_overflow_before_makes",
    ),
    Fault(
        "sweep-goes-on-with-other-inputs",
        "rows of other inputs are taken for those of this sweep",
        "Ledger._read",
        "not isinstance(head, dict) or head.get(k) != mine",
        'k != "inputs" and (not isinstance(head, dict) or head.get(k) != mine)',
        "tests/explore/test_sweep.py::test_rows_of_another_sweep_are_refused",
        slow=True,
    ),
]

_NARROWING = [
    Fault(
        "narrow-ties-up",
        "weights that lose their last bits round ties up",
        "_halved",
        "(rest > half) | ((rest == half) & (low % 2 != 0))",
        "(rest > half) | (rest == half)",
        "tests/test_narrowing.py::test_codes_by_hand",
    ),
    Fault(
        "narrow-zero-kept",
        "a narrower quantizer keeps its zero point",
        "_rounded_zero",
        "np.rint(zero / 2.0**drop)",
        "np.rint(zero / 1.0)",
        "tests/test_narrowing.py::test_codes_by_hand",
    ),
    Fault(
        "narrow-clip-too-wide",
        "codes behind a narrower QuantizeLinear keep the upper end of the wider one",
        "_File._clip",
        "one.high >> drop",
        "one.high",
        "tests/test_narrowing.py::test_clips_of_codes",
    ),
    Fault(
        "search-slack-is-proven",
        "a point whose registers are narrower than proven ones is called proven",
        "Problem._point",
        "have >= need",
        "have >= need - 1",
        "tests/explore/test_search.py::test_points_are_what_their_files_do",
        slow=True,
    ),
    Fault(
        "search-front-too-long",
        "a front keeps points that another one equals in one objective and beats in the rest",
        "front_of",
        "(array <= own).all(axis=1)",
        "(array < own).all(axis=1)",
        "tests/explore/test_search.py::test_fronts_by_definition",
    ),
    Fault(
        "sweep-of-codes-against-itself",
        "errors of narrower codes are against their own exact run",
        "Evaluations.__call__",
        "self._made(fewer, point.target, whole)",
        "self._made(fewer, point.target)",
        "tests/explore/test_sweep.py::test_codes_that_lose_bits",
    ),
]

_REQUANTIZERS = [
    Fault(
        "certificate-blind-to-a-wrapped-bias",
        "a requantizer whose bias wraps is certified equal",
        "Requantizer.segments",
        "_cut(first, last, bias, period)",
        "_cut(first, last, bias, 0)",
        "tests/proofs/test_requantizers.py::test_a_bias_that_wraps",
        slow=True,
    ),
    Fault(
        "certificate-blind-to-a-left-shift",
        "a requantizer whose left shift wraps is certified equal",
        "FixedPoint.channel",
        "1 << (32 - left) if left else 0",
        "0",
        "tests/proofs/test_requantizers.py::test_a_left_shift_that_wraps",
        slow=True,
    ),
    Fault(
        "certificate-looks-at-one-function",
        "an interval counts as constant where the exact codes still step",
        "differing",
        "(f[0] == f[1]) & (s[0] == s[1])",
        "f[0] == f[1]",
        "tests/proofs/test_requantizers.py::test_the_answer_needs_no_guess",
    ),
    Fault(
        "certificate-trusts-a-range-beyond-the-register",
        "accumulators that a register wraps around to are left out",
        "_accumulated",
        "stages[0].drop or low[c] - b < least or high[c] - b > most",
        "stages[0].drop or (low[c] - b < least and high[c] - b > most)",
        "tests/proofs/test_requantizers.py::test_channels_have_ranges_of_their_own",
        slow=True,
    ),
    Fault(
        "certificate-equal-though-undecided",
        "a cell with too many steps counts as equal",
        "_certificate",
        "not open_ and not any(c.count for c in cells)",
        "not any(c.count for c in cells)",
        "tests/proofs/test_requantizers.py::test_too_many_combinations_stay_undecided",
        slow=True,
    ),
]

_CERTIFICATES = [
    Fault(
        "certified-although-sums-go-wrong",
        "a layer for which a wrong sum is known is certified",
        "prove",
        "not sums[node.name].holds",
        "sums[node.name].undecided",
        "tests/proofs/test_certify.py::test_one_layer_is_certified_if_and_only_if_no_input_is_wrong",
        slow=True,
    ),
    Fault(
        "tried-beside-some-padding",
        "all inputs of one row are tried, and a row whose taps meet other padding counts as tried",
        "MacLayer.blocks",
        "found.rows.tolist()",
        "found.rows.tolist()[:1]",
        "tests/proofs/test_certify.py::test_padding_does_not_hide_an_input",
        slow=True,
    ),
    Fault(
        "prediction-without-compensation",
        "the compensation of a weight's zero point is left out of a predicted sum",
        "MacLayer._added",
        "-operands.x_zero * w.astype(object).sum(axis=1) - zeros * x.astype(object).sum(axis=1)",
        "-operands.x_zero * w.astype(object).sum(axis=1)",
        "tests/proofs/test_counterexample.py::test_prediction_is_what_the_engine_does",
        slow=True,
    ),
    Fault(
        "check-believes-counterexamples",
        "a counterexample that does not show the integer it states is confirmed",
        "Replay._compare",
        "_otherwise(vars(stated), run)",
        '_otherwise({**vars(stated), "expected": run["expected"]}, run)',
        "tests/test_cli_certify.py::test_a_changed_certificate_is_not_confirmed",
        slow=True,
    ),
    Fault(
        "check-believes-requantizers",
        "claims about requantizers are not compared with what is computed again",
        "check",
        '("format", "intsim", "digest")',
        '("format", "intsim", "digest", "requantizers")',
        "tests/proofs/test_certify.py::test_removed_and_added_parts_are_noticed",
        slow=True,
    ),
    Fault(
        "check-believes-a-target's-name",
        "a certificate whose target was renamed to another built-in one is confirmed",
        "_whose",
        "known == target",
        "known is not None",
        "tests/proofs/test_forgeries.py::test_an_old_file_is_read_and_its_target_compared",
        slow=True,
    ),
    Fault(
        "wrong-input-among-all",
        "a small network is certified although one of its inputs, all tried, goes wrong",
        "_exhaust",
        "obstacle.node in found",
        "obstacle.node in found and not found",
        "tests/proofs/test_certify.py::test_few_inputs_are_all_tried",
        slow=True,
    ),
    Fault(
        "misread-file-certified",
        "a graph that is not what the file says is certified",
        "prove",
        """
        stands = {o.status for o in obstacles} - {"certified"}
        reading = ...
        said = {reading.status, *stands}
        """,
        """
        stands = {o.status for o in obstacles} - {"certified"}
        reading = ...
        said = {"certified", *(o.status for o in obstacles)}
        """,
        "tests/proofs/test_reading.py::test_exit_code_and_line",
        slow=True,
    ),
    Fault(
        "limits-of-a-quantizer-unread",
        "a code that the file's quantizer can't make is found only if an input shows it",
        "_beyond",
        '(mine < limit) if what == "least" else (mine > limit)',
        "False",
        "tests/proofs/test_reading.py::test_a_limit_that_no_input_shows",
        slow=True,
    ),
    Fault(
        "zero-point-lost-beside-a-code",
        "the reference evaluator adds a zero point of 1e-38 to a code in float64",
        "on_codes",
        "2 * ROUNDOFF",
        "0 * ROUNDOFF",
        "tests/verification/reference/test_tiny_parameters.py::test_what_flows_on_is_exact[1e-38]",
        slow=True,
    ),
    Fault(
        "certify-exit-code",
        "the command line ends with 0 although something stands between",
        "certify",
        "finish(json_, ..., show, proven.holds, text)",
        "finish(json_, ..., show, True, text)",
        "tests/test_cli_certify.py::test_open_and_refuted",
        slow=True,
    ),
]

_TESTING = [
    Fault(
        "counterexample-not-shortened",
        "a counterexample of a kernel has hundreds of terms instead of two",
        "smallest",
        "_fewer_terms(case, still)",
        "case",
        "tests/testing/test_checks.py::test_the_counterexample_is_small_and_whole",
        slow=True,
    ),
    Fault(
        "one-right-lane-is-enough",
        "a packed kernel passes if any of its products is right",
        "_equal",
        "(values == wanted).all",
        "(values == wanted).any",
        "tests/testing/test_checks.py::test_one_wrong_product_of_several_is_wrong",
    ),
    Fault(
        "executor-off-by-a-code",
        "an executor passes although its codes are one off",
        "_difference",
        "np.maximum(allowed, unit / 4)",
        "np.maximum(allowed, unit * 4)",
        "tests/testing/test_checks.py::test_an_executor_passes_and_a_wrong_one_is_found",
        slow=True,
    ),
    Fault(
        "tosa-nudge-from-shift-33",
        "TOSA's double rounding of a scale that shifts by 32 is one off at times",
        "_scaled",
        "shift > 31",
        "shift > 32",
        "tests/trust/test_requantizers.py::test_a_requantizer_is_its_dumb_twin[tosa, 32 bits, double rounding]",
        slow=True,
    ),
]

FAULTS = (
    *_REFERENCE,
    *_REQUANTIZERS,
    *_VERDICTS,
    *_PROOFS_AND_FILES,
    *_BOUNDS,
    *_EXPLORE,
    *_NARROWING,
    *_CERTIFICATES,
    *_TESTING,
)
