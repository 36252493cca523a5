"""Which function lowers which operator of `operators.TABLE`. Each returns one value per output of the node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from intsim.frontend.context import Context
from intsim.frontend.expression import Value
from intsim.frontend.operators import LOWERED
from intsim.frontend.reader import Operation

Handler = Callable[[Context, Operation], Value | Sequence[Value]]

HANDLERS: dict[str, Handler] = {}
CURVES: dict[str, Handler] = {}
"""Of operators that take a function of one integer tensor (`Curve`), with constants or other functions of it."""
MASKED: dict[str, Handler] = {}
"""Of operators that take an expression behind a mask (`Masked`)."""
QUANTIZERS: set[str] = set()
"""Operators that turn real values into integers."""
MACS: set[str] = set()
"""Operators that multiply and accumulate."""
MOVERS: set[str] = set()
"""Operators that only move integers, or pick among them: kept integer even after the last quantizer."""

H = TypeVar("H", bound=Handler)


def lowers(*ops: str, kind: set[str] | None = None, curves: bool = False) -> Callable[[H], H]:
    """Register a handler for operator names; `kind` adds them to one of the sets above.

    `curves`: it also takes a `Curve` among the node's inputs.
    """

    def register(handler: H) -> H:
        for op in ops:
            if op not in LOWERED:
                raise ValueError(f"{op} is not in the table of operators")
            HANDLERS[op] = handler
            if curves:
                CURVES[op] = handler
            if kind is not None:
                kind.add(op)
        return handler

    return register


def of_masked(*ops: str) -> Callable[[H], H]:
    """Register the handler for operators with a `Masked` among their inputs."""

    def register(handler: H) -> H:
        MASKED.update(dict.fromkeys(ops, handler))
        return handler

    return register


def of_curves(*ops: str) -> Callable[[H], H]:
    """Register another handler for operators with a `Curve` among their inputs."""

    def register(handler: H) -> H:
        CURVES.update(dict.fromkeys(ops, handler))
        return handler

    return register
