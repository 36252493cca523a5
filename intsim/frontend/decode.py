"""From bytes to an ONNX graph: what kind of file it is, and which of its nodes an output needs."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from intsim.budget import contents
from intsim.errors import IntsimError
from intsim.frontend.tflite import MAGIC, translate

EXPORT = "export the network to QONNX (brevitas.export.export_onnx_qcdq or export_qonnx) and give that file"
OTHERS = (
    (0, b"PK\x03\x04", f"is a zip archive, as torch.save writes it (.pt, .pth), not an ONNX file; {EXPORT}"),
    *((0, bytes([0x80, n]), f"is a Python pickle (.pt, .pkl), not an ONNX file; {EXPORT}") for n in range(2, 6)),
    (0, b"\x89HDF", "is an HDF5 file (Keras), not an ONNX file; export the network to QONNX and give that file"),
    (0, b"GGUF", "is a GGUF file, not an ONNX file; export the network to QONNX or QCDQ and give that file"),
)
"""Where other kinds of file have which bytes, and what to say of them."""


def decode(path: Path) -> onnx.ModelProto:
    """The model in a file, a TensorFlow Lite file's translated to ONNX.

    Raises IntsimError for a file that holds none, and says what it is if that is known.
    """
    data = contents(path)
    if not data:
        raise IntsimError(f"{path}: is empty")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        if data[4:8] == MAGIC:
            return translate(str(path), data)
        raise IntsimError(f"{path}: {_kind(data) or 'not an ONNX file, or damaged or truncated'}") from error
    if not proto.graph.node and data[4:8] == MAGIC:  # those bytes may stand in an ONNX file too
        return translate(str(path), data)
    if not proto.graph.node and (kind := _kind(data)):
        raise IntsimError(f"{path}: {kind}")
    return proto


def _kind(data: bytes) -> str | None:
    """What is known of a file that is no ONNX file."""
    return next((text for at, magic, text in OTHERS if data[at:].startswith(magic)), None)


def needed_nodes(path: str, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes whose results an output needs, in the file's order; nothing is read of the others but their names."""
    makers: dict[str, int] = {}
    for i, node in enumerate(graph.node):
        for output in node.output:
            if output and makers.setdefault(output, i) != i:
                name = node.name or node.op_type
                raise IntsimError(f"{path}: node {name}: tensor {output} is made twice")
    waiting = [o.name for o in graph.output]
    needed: set[int] = set()
    while waiting:
        i = makers.get(waiting.pop(), -1)
        if i >= 0 and i not in needed:
            needed.add(i)
            waiting += graph.node[i].input
    return [node for i, node in enumerate(graph.node) if i in needed]
