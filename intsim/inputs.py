"""What a model runs on: one sample or many, given in any of the accepted forms, or drawn where nobody has data."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intsim.budget import check
from intsim.errors import IntsimError
from intsim.frontend.parameters import ONNX_INTEGERS

if TYPE_CHECKING:
    from intsim.model import Model

Sample = Mapping[str, Any]
"""One array for each graph input, in the file's shapes: real values for float inputs, codes for integer ones."""
Inputs = Sample | Sequence[Sample] | NDArray[Any]
"""A sample; an array alone where the model has one input; arrays with one more leading axis, or with N for a leading 1,
which hold N samples; a list of samples."""
NARROW = ("int4", "uint4", "int2", "uint2", "bfloat16")


def draw(model: Model, seed: int) -> dict[str, NDArray[Any]]:
    """One sample: integer inputs over their whole range; floats over the range of the quantizer that reads them.

    A float input that reaches its quantizer only through other operators is uniform in -1..1. Floats are float32.
    """
    rng = np.random.default_rng(seed)
    ranges = {b.host: (b.quantizer, model.graph.tensors[b.tensor]) for b in model.lowered.boundaries}
    out: dict[str, NDArray[Any]] = {}
    for name, (shape, element) in model.lowered.source.inputs.items():
        if element in ONNX_INTEGERS and name in model.graph.tensors:
            info = model.graph.tensors[name]
            low, high = max(info.low, -(1 << 31)), min(info.high, (1 << 31) - 1)
            out[name] = rng.integers(low, high, size=shape, endpoint=True)
        elif name in ranges and ranges[name][0].scale.size == 1 and not ranges[name][0].bipolar:
            quantizer, info = ranges[name]
            if quantizer.thresholds is not None:
                first, last = (float(f(quantizer.thresholds)) for f in (np.min, np.max))
                room = 0.05 * (last - first) + 1
                out[name] = rng.uniform(first - room, last + room, size=shape).astype(np.float32)
                continue
            scale, offset = float(quantizer.scale.reshape(-1)[0]), float(info.offset.reshape(-1)[0])
            span = (info.high - info.low) * scale
            edges = info.low * scale + offset - 0.05 * span, info.high * scale + offset + 0.05 * span
            out[name] = rng.uniform(*edges, size=shape).astype(np.float32)
        else:
            out[name] = rng.uniform(-1.0, 1.0, size=shape).astype(np.float32)
    return out


@dataclass(frozen=True)
class Drawn:
    """`count` samples drawn when asked for, with the seeds `seed`, `seed + 1`, and so on."""

    model: Model
    count: int
    seed: int

    def __len__(self) -> int:
        """How many."""
        return self.count

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        """One after another."""
        return (draw(self.model, self.seed + i) for i in range(self.count))


def samples_of(
    model: Model, inputs: Inputs | None, samples: int | None = None, seed: int = 0, least: int = 1
) -> Sequence[dict[str, NDArray[Any]]] | Drawn:
    """Single samples: those of `inputs`, each checked, or `samples` drawn ones (None: `least`).

    Raises:
        IntsimError: inputs of no accepted form, or that don't fit the model; both inputs and a number of samples; a
            number below `least`.
    """
    if inputs is None:
        for what, value, low in (("samples", least if samples is None else samples, least), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
                raise IntsimError(f"{what} {value!r}: give a whole number, {low} or more")
            if value >= 1 << 63:
                raise IntsimError(f"{what} {value!r}: give a number of 63 bits at most")
        return Drawn(model, least if samples is None else int(samples), int(seed))
    if samples is not None:
        raise IntsimError(f"both inputs and samples={samples!r}: samples are drawn where no inputs are given; give one")
    if _listed(inputs):
        if not len(inputs):
            raise IntsimError(f"{model.path}: an empty list of samples; give one sample at least")
        single = [_arrays(model, sample) for sample in inputs]
    else:
        single = _split(model, _arrays(model, inputs))
    for sample in single:
        checked(model, sample)
    return single


def arrays_of(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name, of an .npy by none ("").

    Raises:
        IntsimError: no such file, or another one.
    """
    if path.is_file():  # np.load waits for the end of what has none
        check(path.stat().st_size, f"{path}: takes")
    elif path.exists() and not path.is_dir():
        raise IntsimError(f"{path}: is a pipe or a device; give a file")
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return _members(path)
            file.seek(0)
            count = _said(file, path.stat().st_size)
            check(count, f"{path}: takes")
            file.seek(0)
            return {"": np.lib.format.read_array(file, allow_pickle=False)}
    except IntsimError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise many kinds for a damaged file
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise IntsimError(f"{path}: not a readable .npy or .npz file: {reason}") from None


def _members(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz. What they take is said in front of each, and known before one is unpacked."""
    with zipfile.ZipFile(path) as packed:
        total = 0
        for member in packed.infolist():
            with packed.open(member) as file:
                total += _said(file, member.file_size)
            check(total, f"{path}: its arrays up to {member.filename[:80]} take, unpacked,")
    with np.load(path, allow_pickle=False) as loaded:
        return {n: loaded[n] for n in loaded.files}


def _said(file: IO[bytes], size: int) -> int:
    """Bytes of the array that an .npy of so many bytes holds, by its head. ValueError where there aren't as many."""
    version = np.lib.format.read_magic(file)
    head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = head(file)
    count = math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if min(shape, default=0) < 0 or file.tell() + count != size:
        raise ValueError(f"it says that it holds {count} bytes of {dtype} in shape {shape}, which it doesn't")
    return count


def first_sample(inputs: Inputs | None) -> Sample:
    """The named arrays among which scales and weights may be that the file leaves as inputs."""
    given = inputs[0] if _listed(inputs) and len(inputs) else inputs  # type: ignore[index,arg-type]
    return given if isinstance(given, Mapping) else {}


def checked(model: Model, inputs: Sample | NDArray[Any]) -> dict[str, NDArray[Any]]:
    """One sample as arrays of the file's shapes; raises IntsimError for wrong names, shapes, types or values."""
    arrays, source = _arrays(model, inputs), model.lowered.source
    wanted = source.inputs
    if arrays.keys() != wanted.keys():
        bound = {i.name: source.constants[i.name] for i in source.proto.graph.input if i.name in source.constants}
        unknown = [n for n, a in arrays.items() if n not in wanted and not (n in bound and np.array_equal(a, bound[n]))]
        missing = [n for n in wanted if n not in arrays]
        if unknown or missing:
            what = [f"has no input {n!r}" for n in unknown[:1]] + [f"needs input {n!r}" for n in missing[:1]]
            raise IntsimError(f"{model.path}: {' and '.join(what)}; its inputs are {', '.join(wanted)}")
    return {n: _fitting(model, n, arrays[n]) for n in wanted}


def _listed(inputs: Any) -> bool:
    """Whether it is a list of samples."""
    return (
        isinstance(inputs, Sequence)
        and not isinstance(inputs, str | memoryview)
        and all(isinstance(s, Mapping) for s in inputs)
    )


def _arrays(model: Model, inputs: Any) -> dict[str, NDArray[Any]]:
    """Named arrays; a bare array is the model's only input."""
    names = list(model.lowered.source.inputs)
    if not isinstance(inputs, Mapping):
        array = isinstance(inputs, Sequence | int | float) or hasattr(inputs, "__array__")
        if not array or isinstance(inputs, str | bytes):
            kind = type(inputs).__name__
            raise IntsimError(
                f"{model.path}: inputs of type {kind}; give an array, a dict of arrays, or a list of dicts"
            )
        if len(names) != 1:
            raise IntsimError(f"{model.path}: has inputs {', '.join(names) or 'none'}; give a dict of arrays by name")
        inputs = {names[0]: inputs}
    arrays = {}
    for name, value in inputs.items():
        try:
            arrays[name] = np.asarray(value)
        except Exception as error:  # other libraries' arrays raise what they like
            ragged = isinstance(error, ValueError)
            reason = "its rows differ in length" if ragged else " ".join(str(error).split())[:100]
            raise IntsimError(f"{model.path}: input {name}: not an array: {reason}") from error
    return arrays


def _split(model: Model, arrays: dict[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
    """Single samples: arrays of the file's shape as they are, arrays with one more axis or a larger batch apart."""
    counts: dict[str, int] = {}
    for name, (shape, _) in model.lowered.source.inputs.items():
        if name in arrays and arrays[name].shape != shape:
            if arrays[name].ndim == len(shape) + 1 and arrays[name].shape[1:] == shape:
                counts[name] = len(arrays[name])
            elif shape and shape[0] == 1 and arrays[name].shape[1:] == shape[1:]:
                arrays[name] = arrays[name][:, None]
                counts[name] = len(arrays[name])
    if len(set(counts.values())) > 1 or 0 in counts.values():
        listed = ", ".join(f"input {n} holds {c} samples" for n, c in counts.items())
        raise IntsimError(f"{model.path}: {listed}; all must hold the same number, one at least")
    if not counts:
        return [arrays]
    rest = {n: a for n, a in arrays.items() if n not in counts}
    return [{**rest, **{n: arrays[n][i] for n in counts}} for i in range(next(iter(counts.values())))]


def _fitting(model: Model, name: str, array: NDArray[Any]) -> NDArray[Any]:
    shape, element = model.lowered.source.inputs[name]
    where = f"{model.path}: input {name}"
    if array.dtype.kind not in "fiub" and array.dtype.name not in NARROW:
        raise IntsimError(f"{where}: type {array.dtype} is not numeric")
    if array.shape != shape:
        raise IntsimError(f"{where}: shape {array.shape} given, the file needs {shape}")
    if element in ONNX_INTEGERS:
        info = model.graph.tensors.get(name)
        if array.dtype.kind == "f":
            raise IntsimError(f"{where}: floats given, the file takes integers")
        codes = array.astype(np.int64)
        # a uint64 above 2**63 must not come back as a negative code
        seen = array if array.dtype.kind == "u" else codes
        if info is not None and seen.size and (int(seen.min()) < info.low or int(seen.max()) > info.high):
            outside = (seen < info.low) | (seen > info.high)
            at = [int(i) for i in np.argwhere(outside)[0]]
            assumed = name in model.lowered.source.ranges
            says = "; --range says what it can hold" if assumed else ", which intsim takes"
            raise IntsimError(f"{where}: {int(seen[tuple(at)])} at {at} leaves {info.low}..{info.high}{says}")
        return codes
    floats = array if array.dtype.kind == "f" else array.astype(np.float64)
    if not np.isfinite(floats).all():
        raise IntsimError(f"{where}: holds NaN or infinity")
    return array
