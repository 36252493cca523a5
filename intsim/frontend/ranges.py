"""What the integers of an input can be: as the caller says, or else the positions of the tables that they pick from."""

from __future__ import annotations

from collections.abc import Mapping

from intsim.errors import IntsimError
from intsim.frontend.expression import Const, Fixed, Value
from intsim.frontend.parameters import ONNX_INTEGERS
from intsim.frontend.reader import SourceModel
from intsim.frontend.types import INTEGERS, limits, type_name

Range = tuple[int, int]
MOST = 1 << 61
"""Integers of 64 bits are carried up to here (62 bits)."""
WHOLE = ("Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that hand on every integer of their input, and no other."""


def given_ranges(model: SourceModel, given: Mapping[str, tuple[int, int]]) -> dict[str, Range]:
    """The caller's ranges, checked.

    Raises IntsimError for an input that isn't there or holds no integers, and for a range that its type doesn't hold.
    """
    checked = {}
    for name, (low, high) in given.items():
        if name not in model.inputs:
            known = ", ".join(model.inputs) or "none"
            raise IntsimError(f"{model.path}: no input named {name!r} to give a range; its inputs are {known}")
        element = model.inputs[name][1]
        if element not in INTEGERS:
            kind = type_name(element)
            raise IntsimError(f"{model.path}: input {name}: a range is for integers, it is {kind}; leave the range out")
        least, most = limits(element)
        least, most = max(least, -MOST), min(most, MOST - 1)
        if not least <= low <= high <= most:
            raise IntsimError(
                f"{model.path}: input {name}: {low}..{high} is no range of {type_name(element)}; give low and high "
                f"within {least}..{most}"
            )
        checked[name] = (low, high)
    return checked


def positions(model: SourceModel, values: Mapping[str, Value], types: Mapping[str, int], name: str) -> Range | None:
    """What an input's integers must be so that each Gather that reads all of them finds an entry; None if none does.

    Negative positions count from the end, as ONNX says. Where only some of an input's integers are positions nothing is
    said of the others, and nothing is narrowed.
    """
    sizes, waiting = [], [name]
    for tensor in waiting:  # grows on the way; each tensor of the file is made once
        for op in model.readers.get(tensor, ()):
            if op.op == "Gather" and op.optional(1) == tensor:
                table = values.get(op.inputs[0])
                axis = int(op.attributes.get("axis", 0))
                if isinstance(table, Const | Fixed) and -len(table.shape) <= axis < len(table.shape):
                    sizes.append(table.shape[axis])
            elif op.op in WHOLE and op.inputs[0] == tensor and types.get(op.outputs[0]) in INTEGERS:
                waiting.append(op.outputs[0])
    if not sizes:
        return None
    low, high = limits(model.inputs[name][1])
    narrow = max(low, -min(sizes)), min(high, min(sizes) - 1)
    # a Cast on the way to a narrower type would make other integers of these
    held = all(_holds(types[t], narrow) for t in waiting)
    return narrow if held and narrow != (low, high) else None


def _holds(element: int, narrow: Range) -> bool:
    low, high = limits(element)
    return element in ONNX_INTEGERS and low <= narrow[0] and narrow[1] <= high
