"""Einsum of two operands that is a matrix product: axes laid out as batch, rows and columns, multiplied, laid back."""

from __future__ import annotations

import re
from math import prod
from string import ascii_uppercase

from intsim.frontend.context import Context, Refused
from intsim.frontend.elementwise import expression
from intsim.frontend.expression import Const, Expr, Fixed
from intsim.frontend.matmul import numpy_matmul
from intsim.frontend.movement import reshape_to
from intsim.frontend.reader import Operation
from intsim.frontend.registry import MACS, lowers

Operand = Const | Fixed | Expr
DOTS = "..."


@lowers("Einsum", kind=MACS)
def einsum(context: Context, node: Operation) -> Expr:
    """Letters of both operands that the result lacks are summed over; others of both are a batch.

    Of one operand it is a transposition.
    """
    values = [context.value(n) for n in node.inputs]
    operands: list[Operand] = [
        v if isinstance(v, Const | Fixed) else expression(context, node, i) for i, v in enumerate(values)
    ]
    terms, result = letters(str(node.attributes.get("equation", "")), [len(v.shape) for v in operands])
    if len(operands) == 1 and sorted(terms[0]) == sorted(result) and isinstance(operands[0], Expr):
        return context.move(operands[0], "transpose", {"perm": [terms[0].index(c) for c in result]})
    if len(operands) != 2:
        raise Refused("it is no product of two operands; write it as ReduceSum, Transpose or products of two")
    sizes: dict[str, int] = {}
    for term, value in zip(terms, operands, strict=True):
        if len(set(term)) < len(term):
            raise Refused("it takes a diagonal, which is not supported")
        for letter, size in zip(term, value.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise Refused(f"its operands differ along an axis: {sizes[letter]} and {size}")
    left, right = terms
    batch = [c for c in left if c in right and c in result]
    summed = [c for c in left if c in right and c not in result]
    rows, columns = ([c for c in t if c not in other] for t, other in ((left, right), (right, left)))
    alone = [c for c in rows + columns if c not in result]
    if alone:
        raise Refused("it sums an operand over an axis that the other doesn't have; sum it first (ReduceSum)")
    x = _laid(context, operands[0], left, (batch, rows, summed), sizes)
    y = _laid(context, operands[1], right, (batch, summed, columns), sizes)
    made = numpy_matmul(context, x, y)
    made = reshape_to(context, made, [sizes[c] for c in (*batch, *rows, *columns)])
    perm = [(*batch, *rows, *columns).index(c) for c in result]
    return made if perm == sorted(perm) else context.move(made, "transpose", {"perm": perm})


def letters(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """A letter for each axis of each operand, and of the result; those of `...` are other ones.

    Raises Refused for an equation that ONNX doesn't have, or that doesn't fit the operands.
    """
    compact = equation.replace(" ", "")
    sides = compact.split("->")
    terms = sides[0].split(",")
    named = r"[A-Za-z]*(\.\.\.)?[A-Za-z]*"
    if len(sides) > 2 or len(terms) != len(ranks) or not all(re.fullmatch(named, t) for t in (*terms, *sides[1:])):
        raise Refused(f"its equation {equation!r} doesn't fit {len(ranks)} operands")
    extra = [r - len(t.replace(DOTS, "")) for t, r in zip(terms, ranks, strict=True)]
    if any(n < 0 or (n and DOTS not in t) for n, t in zip(extra, terms, strict=True)):
        raise Refused(f"its equation {equation!r} doesn't fit operands of {' and '.join(map(str, ranks))} axes")
    most = max((n for n, t in zip(extra, terms, strict=True) if DOTS in t), default=0)
    free = [c for c in (*ascii_uppercase, *map(chr, range(0x3B1, 0x3CA))) if c not in compact][:most]
    spelt = [t.replace(DOTS, "".join(free[most - n :]) if n else "") for n, t in zip(extra, terms, strict=True)]
    if len(sides) == 2:
        result = sides[1].replace(DOTS, "".join(free))
    else:
        every = "".join(t.replace(DOTS, "") for t in terms)
        result = "".join(free) + "".join(sorted(c for c in set(every) if every.count(c) == 1))
    if len(set(result)) < len(result) or any(c not in "".join(spelt) for c in result):
        raise Refused(f"its equation {equation!r} has a result that isn't made of its operands' axes")
    return spelt, result


def _laid(context: Context, value: Operand, term: str, groups: tuple[list[str], ...], sizes: dict[str, int]) -> Operand:
    """An operand with its axes in the groups' order: each axis of the batch, then two that hold a group each."""
    perm = [term.index(c) for group in groups for c in group]
    if perm != sorted(perm):
        value = context.move(value, "transpose", {"perm": perm})
    batch, *others = groups
    shape = [*(sizes[c] for c in batch), *(prod(sizes[c] for c in g) for g in others)]
    return value if tuple(shape) == value.shape else reshape_to(context, value, shape)
