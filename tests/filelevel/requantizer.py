"""What a machine's requantizer makes of an accumulator: docs/requantizers.md, one accumulator at a time."""

from fractions import Fraction

from .numbers import Refused, ends, float32, held, power, rounded


def normalised(scale, bits):
    """(M, n) with scale ~= M / 2^n and 2^(bits-2) <= M < 2^(bits-1), ties away from zero; scale > 0."""
    n = 0
    while scale * power(n) >= 2 ** (bits - 1):
        n -= 1
    while scale * power(n) < 2 ** (bits - 2):
        n += 1
    m = rounded(scale * power(n), "half_away")
    return (m // 2, n - 1) if m == 2 ** (bits - 1) else (m, n)


def multiplier(scale, bits):
    """Of a fixed-point requantizer, with the scale's sign: below 2^-32 it is 0, from 2^30 on it is refused."""
    m, n = normalised(abs(scale), bits)
    exponent = bits - 1 - n  # scale is in [2^(exponent-1), 2^exponent)
    if exponent < -31:
        return 0, 0
    if exponent > 30:
        raise Refused("scale too large for a fixed-point multiplier")
    return (m if scale > 0 else -m), n


def two_roundings(acc, m, n, bits, last="half_away"):
    """gemmlowp: left shift that wraps in 32 bits, high product with ties up, right shift with ties away from zero."""
    if not ends(32)[0] <= acc <= ends(32)[1]:
        raise Refused("double rounding takes 32 bits")
    left, right = max(bits - 1 - n, 0), max(n - bits + 1, 0)
    high = rounded(Fraction(held(acc * 2**left, 32, "wrap") * m, 2 ** (bits - 1)), "half_up")
    return rounded(Fraction(high, 2**right), last)


def tosa(acc, scale, bits, twice):
    """apply_scale_32 or apply_scale_16."""
    if scale <= 0:
        raise Refused("TOSA: multiplier >= 0")
    m, n = normalised(scale, bits)
    if n > 62:
        m, n = m // 2 ** (n - 62), 62
    if n < 2:
        raise Refused("TOSA: shift >= 2")
    low, high = (max(-(2 ** (n - 1)), ends(32)[0]), min(2 ** (n - 1) - 1, ends(32)[1])) if bits == 32 else ends(48)
    if not low <= acc <= high:
        raise Refused("TOSA: value out of range")
    nudge = 2 ** (n - 1)
    if twice and n > 31:
        nudge += 2**30 if acc >= 0 else -(2**30)
    result = (acc * m + nudge) // 2**n
    if bits == 16 and not ends(32)[0] <= result <= ends(32)[1]:
        raise Refused("TOSA: result out of range")
    return result


def single(acc, scale, bits, mode):
    """The full product with a fixed-point multiplier, rounded once."""
    m, n = multiplier(scale, bits)
    return rounded(acc * m / power(n), mode)


def scaled(form, acc, scale):
    """`acc * scale` by a scheme that knows no offset; scale is not 0."""
    scheme, bits = form["scheme"], form.get("multiplier_bits", 32)
    twice = form.get("double_rounding", False)
    if scheme == "fixed-point" and twice:
        return two_roundings(acc, *multiplier(scale, bits), bits)
    if scheme == "ruy":
        return two_roundings(acc, *multiplier(scale, 32), 32, "half_up")
    if scheme == "fixed-point":
        return single(acc, scale, bits, form["rounding"])
    if scheme == "tosa":
        return tosa(acc, scale, bits, twice)
    if scheme == "float32":
        product = float32(float32(Fraction(acc)) * float32(scale))
        return rounded(min(max(product, Fraction(-(2**24))), Fraction(2**24)), "half_even")
    assert scheme == "shift"
    top, bottom = abs(scale).numerator, abs(scale).denominator
    if bin(top * bottom).count("1") != 1:
        raise Refused("scale is no power of two")
    # a negative scale negates, then shifts
    return rounded(acc * scale, form["rounding"])


def is_exact(form):
    """Whether a scheme computes the formula itself."""
    return form["scheme"] in ("exact", "thresholds")


def unclipped(form, stages, acc, scale, offset, mode):
    """`round(acc * scale + offset)` as a machine computes it; `mode` is what the file rounds by.

    A scheme without room for offsets adds whole LSBs to the accumulator, back into the last register.
    """
    if is_exact(form):
        return rounded(acc * scale + offset, mode)
    if scale == 0:
        return rounded(offset, form.get("rounding", mode))
    if offset:
        acc += rounded(offset / scale, "half_even")
        if stages:
            acc = held(acc, stages[-1].bits, stages[-1].overflow)
    return scaled(form, acc, scale)


LEFT = 20
"""Bits by which operands of a sum are shifted left before their multipliers, if they have room in 31 bits."""


def operand(form, value, scale):
    """One operand of a sum of tensors, brought to the sum's scale."""
    if form["scheme"] == "tosa" and scale < 0:
        return -scaled(form, value, -scale)
    if form["scheme"] == "float32":
        return rounded(float32(float32(Fraction(value)) * float32(scale)), "half_even")
    return scaled(form, value, scale)
