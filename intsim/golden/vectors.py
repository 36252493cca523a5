"""Vectors of a model on a target: the network runs layer by layer, and each tensor goes to its files as it is made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from intsim.dispatch import Machine, machine
from intsim.engine.node import run_alone
from intsim.errors import IntsimError
from intsim.golden.folder import FORMAT, written
from intsim.golden.formats import FORMATS
from intsim.golden.layers import Layer, chosen, layers
from intsim.golden.layout import ORDERS
from intsim.golden.manifest import sealed
from intsim.golden.sums import Sums, Trace, trace
from intsim.golden.words import MOST_BUS
from intsim.golden.writer import Step, Writer
from intsim.graph import IntArray
from intsim.inputs import Drawn, Inputs, samples_of
from intsim.model import Model
from intsim.notebook import Shown
from intsim.ops import OPS, Mac
from intsim.proofs.subject import identity, target_content
from intsim.targets import Target
from intsim.targets.library import is_path
from intsim.verification.executed import opened

Report = Callable[[str], None]


@dataclass(frozen=True)
class Vectors(Shown):
    """What `intsim.vectors` returns: the folder, and its manifest (docs/json.md)."""

    path: Path
    manifest: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The manifest."""
        return self.manifest


def vectors(
    model: str | Path | onnx.ModelProto | Model,
    target: str | Path | Target = "exact",
    inputs: Inputs | None = None,
    samples: int | None = None,
    seed: int = 0,
    *,
    out: str | Path,
    layer: Sequence[str] = (),
    partial: bool = False,
    formats: Sequence[str] = ("npy", "hex"),
    bus_bits: int = 32,
    order: str = "NCHW",
    source: str | None = None,
    operands: IntArray | None = None,
    fold: tuple[int, int] | None = None,
    progress: Report | None = None,
) -> Vectors:
    """Write what each layer reads, holds and makes on a target, with a manifest: docs/guides/golden-vectors.md.

    Args:
        model: path, ModelProto or what `load` returned.
        target: a built-in name, a TOML file or a `Target`.
        inputs: as `run` takes them. Drawn with `seed` where None. Of several samples tensors have one more first axis.
        samples: how many samples to draw where no inputs are given; 1 if None.
        seed: seed of the first drawn sample.
        out: a new folder, or one of vectors, which is replaced.
        layer: names of layers; all if empty.
        partial: what each register holds after a layer's last addition, too.
        formats: of "npy", "hex", "words" and "c".
        bus_bits: of the words of "words", 1..65536.
        order: of elements: "NCHW", "NHWC", "finn" or "hls4ml".
        source: where the inputs, or the operands, come from, for the manifest.
        operands: of one `layer`, (samples, *shape of its operand), instead of inputs of the network: integer codes.
        fold: PE and SIMD of FINN's MVAUs: with order "finn", weights also as words of their memory.
        progress: called with a line of text before each node.

    Raises:
        IntsimError: bad model, target, inputs or options, a layer that doesn't fit the target, or a folder that holds
            something else or can't be written. Nothing is left behind then.
    """
    on = Target.load(target)
    loaded = opened(model, inputs, on)
    loaded.check_whole("golden vectors")
    check_options(formats, bus_bits, order, fold)
    runs = machine(loaded.graph, on)
    wanted = chosen(layers(runs.graph, loaded.graph), layer, loaded.path)
    options = Options(tuple(formats), bus_bits, order, partial, tuple(layer), fold)
    of = str(target) if _is_file(target) else None
    if operands is not None:
        if inputs is not None or samples is not None:
            raise IntsimError("both inputs of the network and operands of a layer: give one of them")
        one = only(wanted, loaded.path, layer)
        given = checked_operands(runs, one, operands)
        origin: dict[str, Any] = {"seed": None, "inputs": source, "input_sha256": _hashes([{"operand": given}])}
        return write_steps(out, loaded, runs, of, options, steps_of(runs, one, given), wanted, len(given), origin)
    data = samples_of(loaded, inputs, samples, seed)
    origin = {
        "seed": int(data.seed) if isinstance(data, Drawn) else None,
        "inputs": source,
        "input_sha256": _hashes(data),
    }
    return write_steps(
        out, loaded, runs, of, options, steps(loaded, runs, wanted, data, progress), wanted, len(data), origin
    )


class Options(NamedTuple):
    """How files are written, and which layers were asked for."""

    formats: tuple[str, ...] = ("npy", "hex")
    bus_bits: int = 32
    order: str = "NCHW"
    partial: bool = False
    layers: tuple[str, ...] = ()
    fold: tuple[int, int] | None = None


def write_steps(
    out: str | Path,
    model: Model,
    runs: Machine,
    target_file: str | None,
    options: Options,
    taken: Iterable[Step],
    wanted: Sequence[Layer],
    samples: int,
    origin: Mapping[str, Any],
) -> Vectors:
    """Vectors of nodes that have run; `origin` says for the manifest where the layers' operands come from."""
    with written(Path(out)) as draft:
        writer = Writer(
            *(draft, runs, options.formats, options.bus_bits, options.order, options.partial, samples, options.fold)
        )
        for step in taken:
            writer.write(step)
        manifest = sealed(
            draft,
            {
                "format": FORMAT,
                "model": {"path": model.path, **identity(model)},
                "target": {"path": target_file, **target_content(runs.target)},
                "samples": samples,
                **origin,
                "options": {k: list(v) if isinstance(v, tuple) else v for k, v in options._asdict().items()},
                "layers": writer.finished(wanted),
            },
        )
    return Vectors(Path(out), manifest)


def trace_output(
    model: str | Path | onnx.ModelProto | Model,
    layer: str,
    position: Sequence[int],
    target: str | Path | Target = "exact",
    inputs: Inputs | None = None,
    seed: int = 0,
) -> Trace:
    """Every addition of one output of a multiply-accumulate layer on the first sample, one after another.

    Args:
        model, target, inputs, seed: as `vectors` takes them.
        layer: its name.
        position: in its result, in the order of the network's axes; without the first axis where that is 1.

    Raises:
        IntsimError: as `vectors` does; a layer that adds up no products, or no such output.
    """
    on = Target.load(target)
    loaded = opened(model, inputs, on)
    loaded.check_whole("golden vectors")
    data = samples_of(loaded, inputs, None, seed)
    runs = machine(loaded.graph, on)
    wanted = chosen(layers(runs.graph, loaded.graph), [layer], loaded.path)
    macs = [x for x in wanted if isinstance(OPS[x.head.op], Mac)]
    if not macs:
        raise IntsimError(f"{loaded.path}: layer {layer} adds up no products; trace a convolution or a matrix product")
    first = next(step for step in steps(loaded, runs, macs[:1], [next(iter(data))], None))
    return trace(Sums.of(runs, first.node, first.arrays), macs[0].name, position)


def steps(model: Model, runs: Machine, wanted: Sequence[Layer], data: Any, progress: Report | None) -> Iterator[Step]:
    """The nodes of some layers as each sample reaches them; tensors live as long as someone reads them."""
    of = {node.output: x for x in wanted for node in x.nodes}
    graph = runs.graph
    last_reader = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    last = max((i for i, node in enumerate(graph.nodes) if node.output in of), default=-1)
    for sample in data:
        values = model.integer_inputs(sample, runs.target)
        for i, node in enumerate(graph.nodes[: last + 1]):
            if progress is not None:
                progress(node.shown)
            if node.output not in last_reader and node.output not in of and node.output not in graph.outputs:
                continue  # a kernel reads what this operator reads
            arrays = [values[n] for n in node.inputs]
            made = run_alone(graph, node, arrays, runs.arithmetic(node))[0]
            values[node.output] = made
            if node.output in of:
                yield Step(of[node.output], node, arrays, made)
            for name in {*node.inputs, node.output}:
                if last_reader.get(name, -1) <= i:
                    values.pop(name, None)


def only(found: Sequence[Layer], model: str, names: Sequence[str]) -> Layer:
    """The one layer. Raises IntsimError where names are of several, or of none in particular."""
    if len(found) != 1:
        what = f"{', '.join(names)} are {len(found)}" if names else "none is named"
        raise IntsimError(f"{model}: operands are of one layer, and {what}; give --layer NAME")
    return found[0]


def checked_operands(runs: Machine, layer: Layer, operands: Any) -> IntArray:
    """Codes (samples, *shape) that a layer with one operand can read; raises IntsimError for others."""
    if len(layer.head.inputs) != 1:
        raise IntsimError(f"layer {layer.name} reads {len(layer.head.inputs)} tensors; give a layer with one operand")
    tensor, array = runs.graph.tensors[layer.head.inputs[0]], np.asarray(operands)
    if array.dtype.kind not in "iu" or array.shape[1:] != tensor.shape or not array.size:
        raise IntsimError(
            f"layer {layer.name}: operands of type {array.dtype} and shape {array.shape}; give integers of shape "
            f"(samples, {', '.join(map(str, tensor.shape))})"
        )
    low, high = (tensor.low, tensor.high) if tensor.type is None else (tensor.type.min, tensor.type.max)
    if array.min() < low or array.max() > high:
        raise IntsimError(f"layer {layer.name}: operands {array.min()}..{array.max()}; its codes are {low}..{high}")
    return array.astype(np.int64)


def steps_of(runs: Machine, layer: Layer, operands: Iterable[IntArray]) -> Iterator[Step]:
    """The nodes of one layer on operands of its own."""
    for codes in operands:
        arrays = [codes]
        for node in layer.nodes:
            made = run_alone(runs.graph, node, arrays, runs.arithmetic(node))[0]
            yield Step(layer, node, arrays, made)
            arrays = [made]


def _is_file(target: str | Path | Target) -> bool:
    """Whether a target was given by its file."""
    return not isinstance(target, Target) and is_path(str(target))


def _hashes(data: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """SHA-256 of each input's bytes, little-endian, of all samples one after another."""
    made: dict[str, hashlib._Hash] = {}
    for sample in data:
        for name, value in sample.items():
            array = np.ascontiguousarray(value)
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            made.setdefault(name, hashlib.sha256()).update(little.tobytes())
    return {name: digest.hexdigest() for name, digest in made.items()}


def check_options(formats: Sequence[str], bus: int, order: str, fold: tuple[int, int] | None = None) -> None:
    """Raise IntsimError for what vectors aren't written in."""
    for name in formats:
        if name not in FORMATS:
            raise IntsimError(f"format {name!r}: allowed: {', '.join(FORMATS)}")
    if not formats or len(set(formats)) < len(formats):
        raise IntsimError(f"formats {','.join(formats)!r}: give one or more, each once, of {', '.join(FORMATS)}")
    if isinstance(bus, bool) or not isinstance(bus, int) or not 1 <= bus <= MOST_BUS:
        raise IntsimError(f"bus of {bus!r} bits; allowed: 1..{MOST_BUS}")
    if order not in ORDERS:
        raise IntsimError(f"order {order!r}: allowed: {', '.join(ORDERS)}")
    if fold is not None and (order != "finn" or min(fold) < 1 or fold[0] * fold[1] > MOST_BUS // 32):
        raise IntsimError(f"PE = {fold[0]}, SIMD = {fold[1]}: PE * SIMD is 1..{MOST_BUS // 32}, with order finn alone")


def position(text: str) -> tuple[str, tuple[int, ...]]:
    """Layer and position of `LAYER:c,y,x`. Raises IntsimError for another text."""
    found = re.fullmatch(r"(.+):(\d+(?:,\d+)*)", text)
    if found is None:
        raise IntsimError(f"trace {text!r}: not of the form LAYER:c,y,x")
    return found[1], tuple(int(i) for i in found[2].split(","))
