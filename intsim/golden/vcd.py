"""Signals of a value change dump, sampled on the edges of a clock. Needs pyvcd, `pip install "intsim[rtl]"`.

Source of the format: IEEE 1364-2005, section 18.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intsim.errors import IntsimError
from intsim.golden.grammar import Vcd

MOST_SHOWN = 8


def sampled(path: Path, told: Vcd) -> tuple[list[int], int]:
    """Words of the data signals at every edge at which all valid signals are 1, and how many bits a word has.

    Raises:
        IntsimError: pyvcd isn't there, no such file or signals, data that isn't known at such an edge.
    """
    try:
        from vcd.reader import TokenKind, VCDParseError, tokenize
    except ImportError:
        raise IntsimError(f'{path}: reading .vcd needs pyvcd; pip install "intsim[rtl]"') from None
    wanted = [told.clock, *told.data, *(told.valid or ())]
    codes: dict[str, str] = {}
    scope: list[str] = []
    known: list[str] = []
    widths: dict[str, int] = {}
    try:
        with path.open("rb") as file:
            tokens = tokenize(file)
            for token in tokens:
                if token.kind is TokenKind.SCOPE:
                    scope.append(token.scope.ident)
                elif token.kind is TokenKind.UPSCOPE:
                    scope.pop()
                elif token.kind is TokenKind.VAR:
                    name = ".".join([*scope, token.var.reference])
                    known.append(name)
                    if name in wanted:
                        codes[name], widths[name] = token.var.id_code, token.var.size
                elif token.kind is TokenKind.ENDDEFINITIONS:
                    break
            for name in wanted:
                if name not in codes:
                    more = ", ..." * (len(known) > MOST_SHOWN)
                    raise IntsimError(
                        f"{path}: no signal {name}; it has {', '.join(known[:MOST_SHOWN]) or 'none'}{more}"
                    )
            if len({widths[n] for n in told.data}) > 1:
                raise IntsimError(
                    f"{path}: data signals of {sorted({widths[n] for n in told.data})} bits; give them apart"
                )
            return _words(path, told, codes, tokens, TokenKind), widths[told.data[0]]
    except IntsimError:  # a ValueError too
        raise
    except OSError as error:
        raise IntsimError(f"{path}: can't be read: {error.strerror or error}") from None
    except (VCDParseError, ValueError, IndexError) as error:
        raise IntsimError(f"{path}: not a value change dump: {' '.join(str(error).split())[:200]}") from None


def _words(path: Path, told: Vcd, codes: dict[str, str], tokens: Any, kinds: Any) -> list[int]:
    """Changes of one time are one step: `held` is before it, `new` after it."""
    held: dict[str, Any] = {}
    new: dict[str, Any] = {}
    found: list[int] = []
    rest, level = set(codes.values()), {"rising": 1, "falling": 0}[told.edge]
    clock, time = codes[told.clock], 0

    def end() -> None:
        before, after = held.get(clock), new.get(clock, held.get(clock))
        if before == 1 - level and after == level:
            seen = held if told.sample == "before" else held | new
            if all(seen.get(codes[v]) == 1 for v in told.valid or ()):
                found.extend(_known(path, seen.get(codes[d]), d, time) for d in told.data)
        held.update(new)
        new.clear()

    for token in tokens:
        if token.kind is kinds.CHANGE_TIME:
            end()
            time = token.data
        elif token.kind in (kinds.CHANGE_SCALAR, kinds.CHANGE_VECTOR) and token.data.id_code in rest:
            value = token.data.value
            new[token.data.id_code] = int(value) if value in ("0", "1") else value
    end()
    return found


def _known(path: Path, value: Any, signal: str, time: int) -> int:
    if not isinstance(value, int):
        said = "has no value yet" if value is None else f"is {value}"
        raise IntsimError(f"{path}: signal {signal} {said} at time {time}, where it is sampled; give a valid signal")
    return value
