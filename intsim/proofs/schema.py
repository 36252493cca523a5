"""The form of a certificate's file: one check by types, names and ranges before anything in it is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from intsim.errors import IntsimError
from intsim.proofs.certificate import (
    FORMAT,
    FORMAT_1,
    FORMAT_2,
    Counterexample,
    LayerClaim,
    Obstacle,
    Reading,
    RequantizerClaim,
    Status,
)

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""Of every part, the dataclasses of a certificate among them."""
MOST_DEPTH = 40
"""Lists and tables within each other; a certificate needs 9."""
MOST_SAMPLES = 1_000_000
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=MOST_SAMPLES)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]


class _Part(BaseModel):
    model_config = STRICT


class ModelPart(_Part):
    """The model: its file's name, SHA-256 of the file and of the integer graph, what its inputs are assumed to hold."""

    file: Annotated[str, StringConstraints(max_length=255)]
    sha256: Sha256
    graph_sha256: Sha256
    input_ranges: dict[str, Annotated[list[int], Field(min_length=2, max_length=2)]] | None = None


class TargetPart(_Part):
    """The target: the grammar of docs/targets.md checks its content."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    sha256: Sha256
    content: dict[str, Any]


class HostPart(_Part):
    """Operators outside; `islands` of a model that has some."""

    prologue: list[str]
    epilogue: list[str]
    islands: list[str] | None = None


class SearchPart(_Part):
    """Samples searched."""

    samples: Count
    seed: Seed | None
    sha256: Sha256 | Literal[""]


class SearchPart1(_Part):
    """The same in format 1."""

    limit: Count
    samples: Count
    seed: Seed | None


class _Document(_Part):
    format: str
    intsim: str
    model: ModelPart
    target: TargetPart
    verdict: Status
    host: HostPart
    layers: list[LayerClaim]
    requantizers: list[RequantizerClaim]
    obstacles: list[Obstacle]
    multipliers: bool
    digest: Sha256


class Document(_Document):
    """A file of this format, or one of format 2 with its keys."""

    search: SearchPart
    reading: Reading


class Document1(_Document):
    """A file of format 1 with the keys of this one."""

    search: SearchPart1


KINDS: dict[str, type[_Document]] = {FORMAT: Document, FORMAT_2: Document, FORMAT_1: Document1}
RENAMED = {
    "": {"samples": "search"},
    "samples": {"searched": "samples"},
    "layers": {"registers": "stages", "safe": "safe_channels"},
    "registers": {"needs": "required_bits", "unsafe": "unsafe_channels"},
    "cells": {"wrong": "wrong_intervals", "refused": "refused_intervals"},
    "requantizers": {"multiplier_bits": "exact_multiplier_widths"},
    "reading": {"integers": "elements", "given": "cut", "first": "disagreement"},
    "first": {"node": "name"},
    "network": {"first": "first_node"},
}
"""Keys of formats 1 and 2, by the key under which their table stands, and what they are called now."""
COUNTEREXAMPLE = TypeAdapter(Counterexample)


def parsed(data: bytes) -> Any:
    """JSON, each name of a table once; raises ValueError or RecursionError."""
    return json.loads(data, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name stands twice in one table")
    return table


def validated(content: Any) -> dict[str, Any]:
    """The content with the keys of this format, if it has the form of a certificate.

    `next_step`, which is advice and no claim, is left out.

    Raises:
        IntsimError: one line: another format, or the first thing that is missing, too much or not of its kind.
    """
    if not isinstance(content, Mapping) or "format" not in content:
        raise IntsimError("not a certificate, or damaged: it names no format")
    kind = KINDS.get(content["format"]) if isinstance(content["format"], str) else None
    if kind is None:
        raise IntsimError(f"format {str(content['format'])[:80]!r} is not {FORMAT}, which this version reads")
    content = {k: v for k, v in content.items() if k != "next_step"}
    if _depth(content) > MOST_DEPTH:
        raise IntsimError("damaged: lists or tables lie too deep within each other")
    if content["format"] != FORMAT:
        content = _renamed(content)
    try:
        kind.model_validate_json(json.dumps(content, ensure_ascii=False).encode())
    except ValidationError as error:
        raise IntsimError(f"damaged: {_first(error)}") from None
    except UnicodeEncodeError:
        raise IntsimError("damaged: a text holds half a character") from None
    return dict(content)


def _renamed(content: Any, under: str = "") -> Any:
    """A file of an older format with today's keys; registers get their numbers."""
    if isinstance(content, Mapping):
        names = RENAMED.get(under, {})
        return {names.get(k, k): _renamed(v, k) for k, v in content.items()}
    if isinstance(content, list):
        parts = [_renamed(v, under) for v in content]
        if under == "registers":
            return [{"stage": i, **p} if isinstance(p, dict) else p for i, p in enumerate(parts, 1)]
        return parts
    return content


def counterexample(content: Any) -> Counterexample:
    """A counterexample of a content that is valid."""
    return COUNTEREXAMPLE.validate_json(json.dumps(content))


def _depth(content: Any) -> int:
    depth, level = 0, [content]
    while level and depth <= MOST_DEPTH:
        depth += 1
        level = [v for c in level for v in (c.values() if isinstance(c, Mapping) else c) if isinstance(v, dict | list)]
    return depth


def _first(error: ValidationError) -> str:
    """The first problem: where, and what is wrong."""
    problem = error.errors(include_url=False, include_context=False)[0]
    parts = [p for p in problem["loc"] if isinstance(p, int) or not p.startswith(("constrained-", "literal["))]
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".")[:120]
    where = where if where.isprintable() else ascii(where)
    return f"{where}: {problem['msg'][:1].lower()}{problem['msg'][1:160]}".lstrip(": ")
