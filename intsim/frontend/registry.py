"""Which function lowers which ONNX operator. Each returns one value per output of the node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from intsim.frontend.context import Context
from intsim.frontend.expression import Value
from intsim.frontend.reader import Operation

Handler = Callable[[Context, Operation], Value | Sequence[Value]]

HANDLERS: dict[str, Handler] = {}
QUANTIZERS: set[str] = set()
"""Operators that turn real values into integers."""
MACS: set[str] = set()
"""Operators that multiply and accumulate."""
MOVERS: set[str] = set()
"""Operators that only move integers, or pick among them: kept integer even after the last quantizer."""


H = TypeVar("H", bound=Handler)


def lowers(*ops: str, kind: set[str] | None = None) -> Callable[[H], H]:
    """Register a handler for operator names; `kind` adds them to one of the sets above."""

    def register(handler: H) -> H:
        for op in ops:
            HANDLERS[op] = handler
            if kind is not None:
                kind.add(op)
        return handler

    return register
