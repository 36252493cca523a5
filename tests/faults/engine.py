"""Faults in what makes the engine fast: words, kernels, formulas, lanes, memory, threads."""

from .planting import Fault

_CORNERS = "tests/engine/test_corners.py::"
_MAPS = "tests/engine/test_maps.py::"

_WORDS = [
    Fault(
        "words-padding-not-shifted",
        "padding of signed activations holds the zero point's code, not its byte",
        "_Placer._word_conv",
        "op.zero_points(node)[0] + shift",
        "op.zero_points(node)[0]",
        _CORNERS + "test_padding_holds_the_zero_point",
        slow=True,
    ),
    Fault(
        "words-zero-point-not-compensated",
        "a fast convolution forgets the activation's zero point",
        "WordConv.__init__",
        "modulo32(bias - zero * total, self.channels + 16)",
        "modulo32(bias, self.channels + 16)",
        _CORNERS + "test_padding_holds_the_zero_point",
        slow=True,
    ),
    Fault(
        "words-channel-tail-dropped",
        "words in which a group of channels does not begin at the first byte are taken for empty",
        "_blocks",
        "words.any(axis=(1, 2))",
        "words[..., 0].any(axis=1)",
        _CORNERS + "test_groups_across_words",
        slow=True,
    ),
    Fault(
        "words-strided-taps",
        "taps of a strided and dilated convolution are looked for in the wrong phase",
        "WordConv.bind",
        "i * w.dilations[0]",
        "i",
        _CORNERS + "test_strides_and_dilations",
        slow=True,
    ),
    Fault(
        "words-phase-border",
        "the first column of a phase is padding although the image begins there",
        "_split",
        "-((j - left) // right)",
        "1 - (j - left) // right",
        _CORNERS + "test_strides_and_dilations",
        slow=True,
    ),
    Fault(
        "words-border-once",
        "padding is what was in its memory before",
        "Program.run",
        "arena.borders[index]",
        "arena.borders[index][:0]",
        _CORNERS + "test_padding_holds_the_zero_point",
        slow=True,
    ),
    Fault(
        "words-operand-within-a-word",
        "an operand of a concatenation that does not begin at a multiple of four is written over its neighbour",
        "_Placer._inlay",
        "channel % 4 == 0 and fits and name not in where",
        "fits and name not in where",
        _CORNERS + "test_operands_of_a_concatenation",
        slow=True,
    ),
    Fault(
        "words-operand-copied-elsewhere",
        "an operand that is copied into a concatenation lands in the channels before it",
        "concat",
        "moved.append((place, channel))",
        "moved.append((place, channel & ~3))",
        _CORNERS + "test_operands_of_a_concatenation",
        slow=True,
    ),
    Fault(
        "signed-rows-not-shifted",
        "signed activations of a matrix product are read as unsigned bytes",
        "matmul.as_bytes",
        "narrow + np.uint8(shift) if shift else narrow",
        "narrow",
        _CORNERS + "test_types_of_matrix_operands",
        slow=True,
    ),
]

_PROGRAM = [
    Fault(
        "memory-taken-too-early",
        "a buffer takes the place of one that the same step still reads",
        "Program.__init__",
        "(births[s], deaths[s])",
        "(births[s], max(births[s], deaths[s] - 1))",
        _CORNERS + "test_memory_is_used_again_only_when_all_have_read",
        slow=True,
    ),
    Fault(
        "proof-of-codes-outlives-an-overflow",
        "codes behind a register that overflowed are stored as narrowly as their proof allowed",
        "_follow",
        "not sound or not target.requantize.exact",
        "not target.requantize.exact",
        _CORNERS + "test_what_an_overflow_lets_through_is_not_clipped_to_a_proof",
        slow=True,
    ),
    Fault(
        "inputs-trusted",
        "inputs outside their described range are run as if they were inside",
        "_described",
        "array.min() >= tensor.low and array.max() <= tensor.high",
        "array.min() <= array.max()",
        "tests/engine/test_repeated_runs.py::test_inputs_outside_their_described_range",
        slow=True,
    ),
    Fault(
        "share-of-rows-lost",
        "with several threads only the first one's rows are computed",
        "Bound.each",
        "each(part, [(i, i + 1, a, b) for i in range(images) for a, b in spans])",
        "each(part, [(i, i + 1, a, b) for i in range(images) for a, b in spans[:1]])",
        _CORNERS + "test_shares_of_threads",
        slow=True,
    ),
    Fault(
        "share-of-rows-in-place-of-another",
        "a thread's rows of a stepwise layer are written where the first thread's belong",
        "RegisterConv._all.part",
        "plan.run(data[begin:], area, out[image], first * width, blocks)",
        "plan.run(data[begin:], area, out[image], 0, blocks)",
        _CORNERS + "test_shares_of_threads",
        slow=True,
    ),
]

_FORMULAS = [
    Fault(
        "formula-without-its-table",
        "ties that a formula rounds the other way are not corrected",
        "_formula",
        "off.max() == 0",
        "off.max() <= 1",
        _CORNERS + "test_every_rounding_of_ties_behind_a_convolution",
    ),
    Fault(
        "formula-proved-on-one-side",
        "a formula is called proven although it reaches codes too early",
        "_formula",
        "((places, codes, 1), (places - 1, codes - 1, -1))",
        "((places, codes, 1),)",
        "tests/engine/test_fit.py",
        slow=True,
    ),
    Fault(
        "table-one-off",
        "an accumulator that is just at a step of the table is not raised",
        "_correct",
        "seen >= table[code - low]",
        "seen > table[code - low]",
        _CORNERS + "test_every_rounding_of_ties_behind_a_convolution",
        slow=True,
    ),
]

_KERNELS = [
    Fault(
        "columns-between-rows-written",
        "what is computed between the rows of a map overwrites its border or the next row",
        "_scatter",
        "max(width - column, 0)",
        "max(width + 1 - column, 0)",
        _CORNERS + "test_rows_of_every_length",
        slow=True,
    ),
    Fault(
        "half-byte-mask",
        "on a machine without VNNI odd channels are read with their neighbours' bits",
        "_bytes",
        "0x00FF00FF if parts == 2 else 0xFF",
        "0x01FF00FF if parts == 2 else 0xFF",
        "tests/engine/test_exact.py::test_sums[avx2]",
        slow=True,
    ),
    Fault(
        "lane-of-16-bits-too-narrow",
        "sums that need 17 bits are added up in 16-bit lanes",
        "_narrow_kind",
        "register.bound < 1 << 15",
        "register.bound < 1 << 16",
        _CORNERS + "test_sums_that_just_leave_a_lane_before_a_narrow_register",
        slow=True,
    ),
    Fault(
        "lane-of-32-bits-too-narrow",
        "sums beside a 32-bit saturating register leave their lane before they are clipped",
        "_wide_kind",
        "register.reach(stage) < 1 << 31",
        "register.reach(stage) < 1 << 33",
        _CORNERS + "test_registers_next_to_the_width_of_a_lane",
        slow=True,
    ),
    Fault(
        "saturation-unclipped",
        "a register of less than 16 bits saturates at 16 bits",
        "Additions.add",
        """
        kept = self.clip(reached, c)
        return kept, b.xor(kept, total), None
        """,
        """
        kept = reached
        return kept, b.xor(kept, total), None
        """,
        _CORNERS + "test_registers_next_to_the_width_of_a_lane",
        slow=True,
    ),
]

_OPERATORS = [
    Fault(
        "windows-without-their-padding",
        "windows of a maximum begin at the first column although padding is in front of it",
        "max_words",
        "q = j * apart_right - left",
        "q = j * apart_right",
        _MAPS + "test_maxima_of_windows",
        slow=True,
    ),
    Fault(
        "product-of-maps-without-zero-point",
        "a product of two maps forgets the second one's zero point",
        "multiply",
        "-y.layout.shift - zeros[1]",
        "-y.layout.shift",
        _MAPS + "test_products_of_maps",
        slow=True,
    ),
    Fault(
        "mean-of-bytes",
        "a mean of signed codes is that of the bytes which they are kept as",
        "mean",
        "-source.layout.shift * count",
        "-source.layout.shift",
        _MAPS + "test_means_of_maps",
        slow=True,
    ),
    Fault(
        "function-of-all-codes-but-the-last",
        "the table of a function of one tensor lacks the greatest code",
        "_table",
        "np.arange(low, high + 1).reshape((1,) * max(rank - 1, 0) + (-1,))",
        "np.arange(low, high).reshape((1,) * max(rank - 1, 0) + (-1,))",
        _MAPS + "test_a_function_of_one_tensor_is_one_table",
        slow=True,
    ),
    Fault(
        "softmax-rounds-down",
        "a compiled softmax rounds down instead of to the nearest",
        "softmax_rows",
        "above = (e[i] << shift) + total",
        "above = e[i] << shift",
        _MAPS + "test_softmax",
        slow=True,
    ),
    Fault(
        "normalisation-trusts-float64",
        "results of a compiled normalisation next to a tie are as float64 has them",
        "norm_rows",
        "abs(y - nearest) > 0.5 - 2.0**-19",
        "abs(y - nearest) > 0.5",
        _MAPS + "test_normalisation_of_every_small_row",
        slow=True,
    ),
    Fault(
        "product-of-tensors-without-zero-point",
        "a compiled product of two tensors forgets the second one's zero point in the sums of the first",
        "multiply_pairs",
        "np.int32(made[m, c] + np.int32(zb * total))",
        "np.int32(made[m, c])",
        _MAPS + "test_products_of_two_tensors",
        slow=True,
    ),
]

FAULTS = (*_WORDS, *_PROGRAM, *_FORMULAS, *_KERNELS, *_OPERATORS)
