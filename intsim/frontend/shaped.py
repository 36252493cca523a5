"""Which tensors of the host have a shape that numbers decide which are known at run time only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from intsim.frontend.reader import Operation

PARAMETERS = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "Compress": (0, 1),
    "ConstantOfShape": (0,),
    "DFT": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "NonMaxSuppression": (0, 1, 2, 3, 4),
    "NonZero": (0,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unique": (0,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""Inputs whose numbers decide the shape of what an operator makes; of reductions it is the second one."""


def shaped_by_data(operations: Sequence[Operation], inputs: Iterable[str], tensor: str) -> Operation | None:
    """The operation that gives `tensor`, or what it is made of, a shape that numbers of `inputs` decide; None: none.

    `operations` in their order. The shapes of `inputs` are known, and so is what is made of shapes alone.
    """
    numbers = set(inputs)
    shaped: dict[str, Operation] = {}
    for op in operations:
        before = next((shaped[n] for n in op.inputs if n in shaped), None)
        if op.op in ("Shape", "Size"):
            numbers.update(op.outputs if before is not None else ())  # a number of axes is known all the same
            continue
        places = PARAMETERS.get(op.op, (1,) if op.op.startswith("Reduce") else ())
        if before is None and any(n in numbers for i, n in enumerate(op.inputs) if i in places):
            before = op
        if before is not None:
            shaped.update(dict.fromkeys(op.outputs, before))
        if any(n in numbers for n in op.inputs):
            numbers.update(op.outputs)
    return shaped.get(tensor)
