"""Several products in one multiplier: operands packed side by side, sums read back from fields of one wide register."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from intsim.arithmetic.accumulate import Accumulation, Stage, Watch, accumulate_telemetry, check_stages
from intsim.arithmetic.integers import as_integers, wrap
from intsim.arithmetic.keys import Key, check, integer, one_of, read
from intsim.errors import IntsimError

Correction = Literal["none", "borrow"]


def _offsets(value: Any) -> bool:
    numbers = list(value) if isinstance(value, (list, tuple)) else []
    return numbers[:1] == [0] and all(map(integer(0, 63).takes, numbers)) and numbers == sorted(set(numbers))


KEYS = {
    "channels": Key(_offsets, "a list of ascending bit offsets 0..63, the first 0, e.g. [0, 18]"),
    "pixels": Key(_offsets, "a list of ascending bit offsets 0..63, the first 0, e.g. [0, 22]"),
    "bits": integer(2, 64),
    "correction": one_of(get_args(Correction)),
}
"""What the keys of a packing take in a target file."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How a wide multiplier computes several products at once.

    Weights of `len(channels)` neighbouring output channels are packed at the bit offsets `channels`, activations of
    `len(pixels)` neighbouring output positions at the offsets `pixels`; one multiplication then yields all their
    products, that of channel c and pixel p at bit `channels[c] + pixels[p]` of a `bits` wide register, where the
    products of a group are added up. A negative lower field borrows 1 from the field above it.

    Attributes:
        channels: ascending, the first 0.
        pixels: ascending, the first 0.
        bits: width of the wide register, 2..64; it wraps.
        correction: "none" reads a field as it stands; "borrow" adds the bit just below it, which repays the borrow.

    Sources: Xilinx WP486, Deep Learning with INT8 Optimization on Xilinx Devices; FINN, mvu_4sx4u.sv and
    mvu_8sx8u_dsp48.sv; DSP-Packing, arXiv 2203.11028.
    """

    channels: tuple[int, ...]
    pixels: tuple[int, ...]
    bits: int
    correction: Correction

    @property
    def offsets(self) -> tuple[int, ...]:
        """Offset of each field, ascending."""
        return tuple(sorted(c + p for c in self.channels for p in self.pixels))

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each field, up to the next one or the end of the register."""
        ends = (*self.offsets[1:], self.bits)
        return tuple(end - start for start, end in zip(self.offsets, ends, strict=True))

    def __post_init__(self) -> None:
        """Refuse fields that lie on each other."""
        check(KEYS, asdict(self), "packing ")
        if min(self.widths) < 2:
            raise IntsimError(f"packing fields of widths {list(self.widths)} bits; each needs 2 or more")


def read_packing(content: Any) -> Packing:
    """The packing of a target file's table, without `pixels` that of one; raises IntsimError as the class does."""
    if isinstance(content, dict):
        content = {"pixels": (0,)} | {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    return read(Packing, KEYS, content, "packing.")


def check_packing(packing: Packing, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages as a tuple if the first one can be read from the fields of `packing`, else raise IntsimError.

    The wide register is the first stage: it wraps, there is one, nothing restarts it, and each field holds the `bits`
    bits that are read. A second stage takes what is read.
    """
    stages = check_stages(stages)
    if len(stages) < 2:
        raise IntsimError(
            f"packing needs a stage that takes what is read of the fields; there are {len(stages)} stages"
        )
    first = stages[0]
    if first.drop:
        raise IntsimError("stages, stage 1: drop is with one product a multiplier; leave it or the packing out")
    if first.restart is not None:
        raise IntsimError("stages, stage 1: restart is with one product a multiplier; leave it or the packing out")
    if first.lanes != 1:
        raise IntsimError(
            f"stages, stage 1: lanes is {first.lanes}; with packing the first stage has one wide register"
        )
    if first.overflow != "wrap":
        raise IntsimError(f'stages, stage 1: overflow is "{first.overflow}"; with packing the first stage is "wrap"')
    if first.bits > min(packing.widths):
        raise IntsimError(
            f"stages, stage 1: bits is {first.bits}; the narrowest field of the packing has {min(packing.widths)} bits"
        )
    return stages


def accumulate_packed(
    products: Any,
    stages: Sequence[Stage],
    packing: Packing,
    start: Any = 0,
    bias: Any = None,
    watch: Watch | None = None,
) -> Accumulation:
    """Add products in the fields of one wide register, read the fields of each group, and add those up as usual.

    This is the definition; `engine/registers/packed.py` computes the same, fast.

    Args:
        products: (..., channels, pixels, K) integers, in order of arrival; channels and pixels as many as `packing`
            has offsets. A lane without a partner holds zeros. The sum of a group fits int64.
        stages: see `check_packing`. The first one's group is what the wide register adds up before it is read.
        packing: where the fields are, and how they are read.
        start: broadcasts to (..., channels, pixels): a bias preloaded into each output's last register.
        bias: broadcasts likewise, or None: a bias added into each output's last register after everything else.
        watch: sees every addition; of the first stage each product of a field with the wide register, then (None) the
            true sum with what is read.

    Returns:
        Accumulation with `...` = (..., channels, pixels). Of the first stage, an event is a group whose value read is
        not the sum of its products; the extremes are those of the true partial sums.

    Raises:
        IntsimError: not integers, shapes that are not the packing's, impossible stages, or sums beyond int64.
    """
    stages = check_packing(packing, stages)
    values = as_integers(products, "products").astype(np.int64)
    lanes = (len(packing.channels), len(packing.pixels))
    if values.ndim < 3 or values.shape[-3:-1] != lanes:
        raise IntsimError(f"products have shape {values.shape}; the packing's is (..., {lanes[0]}, {lanes[1]}, K)")
    shape, depth = values.shape[:-1], values.shape[-1]
    size = depth if stages[0].sum is None else min(stages[0].sum, depth)
    check_group_sums(max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0, size)

    offsets = np.array([[c + p for p in packing.pixels] for c in packing.channels])
    events, low, high = (np.zeros(shape, np.int64) for _ in range(3))
    handed_on = []
    for begin in range(0, depth, max(size, 1)):
        wide = np.zeros(shape[:-2], np.int64)  # modulo 2^64, hence modulo 2^bits too
        true = np.zeros(shape, np.int64)
        group = range(begin, min(depth, begin + size))
        for k in group:
            true = true + values[..., k]
            low, high = np.minimum(low, true), np.maximum(high, true)
            with np.errstate(over="ignore"):
                wide = wrap(wide + (values[..., k] << offsets).sum(axis=(-2, -1)), packing.bits)
            if watch is not None:
                watch(0, group, k, values[..., k], np.broadcast_to(wide[..., None, None], shape))
        field = wrap(wide[..., None, None] >> offsets, stages[0].bits)
        if packing.correction == "borrow":
            below = (wide[..., None, None] >> np.maximum(offsets - 1, 0)) & 1
            field = field + np.where(offsets > 0, below, 0)
        events = events + (field != true)
        if watch is not None:
            watch(0, group, None, true, field)
        handed_on.append(field)
    read = np.stack(handed_on, axis=-1) if handed_on else np.zeros((*shape, 0), np.int64)
    behind = None if watch is None else partial(_one_stage_on, watch)
    rest = accumulate_telemetry(read, stages[1:], start, bias, behind)
    first = (events, low, high)
    telemetry = (np.concatenate([a[..., None], b], axis=-1) for a, b in zip(first, rest[1:], strict=True))
    return Accumulation(rest.result, *telemetry)


def _one_stage_on(watch: Watch, stage: int, *addition: Any) -> None:
    """Tell of an addition behind the wide register."""
    watch(stage + 1, *addition)


def check_group_sums(product: int, size: int) -> None:
    """Refuse groups of `size` products up to `product` whose sums don't fit int64."""
    if product * size >= 1 << 63:
        raise IntsimError(f"sums of {size} packed products up to {product} do not fit int64")
