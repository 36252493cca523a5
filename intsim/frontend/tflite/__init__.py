"""TensorFlow Lite files: translated, operator by operator, into the quantized ONNX form that the lowering reads.

What the file means is real arithmetic on the numbers that codes stand for, rounded to the output's codes half to even,
as ONNX QuantizeLinear does. Every node written carries the operator of the .tflite file that it comes from.
"""

from __future__ import annotations

import onnx

from intsim.errors import IntsimError
from intsim.frontend.refusals import summary
from intsim.frontend.tflite import conv, elementwise, movement, pooling, resize, slices
from intsim.frontend.tflite.activations import even_ends
from intsim.frontend.tflite.file import MAGIC, FileOperator, TfliteFile, parse
from intsim.frontend.tflite.network import Network, Unsupported
from intsim.frontend.tflite.registry import TRANSLATES

__all__ = ["MAGIC", "translate"]
OPERATORS = (conv, elementwise, movement, pooling, resize, slices)
"""Importing these registers their functions."""
MALFORMED = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What numpy and Python raise where an operator's tensors and options make no sense together."""


def translate(path: str, data: bytes) -> onnx.ModelProto:
    """The ONNX form of a .tflite file's bytes; inputs and outputs have the file's names and shapes.

    Raises IntsimError, one line: what is damaged, or every operator that can't be translated, and why.
    """
    file = parse(path, data)
    unknown = [(op.name, op.kind, f"{op.kind} is not supported") for op in _needed(file) if op.kind not in TRANSLATES]
    if unknown:
        raise IntsimError(f"{path}: {summary(unknown)}")
    net = Network(file)
    refusals: list[tuple[str, str, str]] = []
    for op in _needed(file):
        net.at = op
        if net.broken & set(op.inputs):
            net.broken.update(op.outputs)
            continue
        net.even_ends = even_ends(net)
        try:
            TRANSLATES[op.kind](net)
        except Unsupported as error:
            refusals.append((op.name, op.kind, str(error)))
        except MALFORMED as error:
            text = " ".join(str(error).split())
            refusals.append((op.name, op.kind, f"its inputs or options don't fit the operator: {text}"))
        if refusals:
            net.broken.update(o for o in op.outputs if refusals[-1][0] == op.name)
    if refusals:
        raise IntsimError(f"{path}: {summary(refusals)}")
    return net.proto()


def _needed(file: TfliteFile) -> list[FileOperator]:
    """The operators whose results an output needs, in the file's order, which is the order of execution."""
    wanted = set(file.outputs)
    kept = []
    for op in reversed(file.operators):
        if wanted & set(op.outputs):
            wanted.update(op.inputs)
            kept.append(op)
    return kept[::-1]
