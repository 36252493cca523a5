"""What a certificate is about: one model, by its bytes and its integers, and one target, by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from intsim.errors import IntsimError
from intsim.graph import IntegerGraph, node_json, tensor_json
from intsim.model import Model
from intsim.ops import OPS, Mac
from intsim.targets import Target
from intsim.targets.library import is_path


def check_subject(model: Model) -> None:
    """Raise IntsimError where a certificate would be about nothing: no layer whose integers a target computes."""
    if any(node.op == "requantize" or isinstance(OPS[node.op], Mac) for node in model.graph.nodes):
        return
    host = [name for names in model.lowered.host.values() for name in names]
    outside = (
        f"; outside of it, {'' if model.islands else 'in float64 '}on the host: {', '.join(host[:6])}" if host else ""
    )
    raise IntsimError(
        f"{model.path}: there is nothing to certify: its integer graph has no multiply-accumulate and no requantizer"
        f"{outside}{', ...' * (len(host) > 6)}"
    )


def identity(model: Model) -> dict[str, Any]:
    """A model's file name, SHA-256 of the file, and SHA-256 of the integer graph it was lowered to.

    And `input_ranges`, what its integer inputs are assumed to hold, if that is less than their types do.
    """
    path = Path(model.path)
    proto = model.lowered.source.proto
    data = path.read_bytes() if path.is_file() else proto.SerializeToString(deterministic=True)
    said = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "graph_sha256": graph_sha256(model.graph)}
    assumed = {n: list(ends) for n, ends in model.lowered.source.ranges.items() if n in model.graph.inputs}
    return {**said, "input_ranges": assumed} if assumed else said


def graph_sha256(graph: IntegerGraph) -> str:
    """SHA-256 of an integer graph: tensors, nodes and their arrays, inputs and outputs."""
    content = {
        "tensors": [tensor_json(t) for t in graph.tensors.values()],
        "nodes": [[node_json(n), sorted(n.arrays)] for n in graph.nodes],
        "inputs": graph.inputs,
        "outputs": graph.outputs,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for node in graph.nodes:
        for key in sorted(node.arrays):
            array = np.ascontiguousarray(node.arrays[key]).astype("<i8")
            digest.update(f"{key} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def target_content(target: Target) -> dict[str, Any]:
    """Name, SHA-256 and full content of a target; `target_from` reads it."""
    content = target.model_dump(mode="json", exclude_none=True)
    return {"name": target.name, "sha256": sha256_of(content), "content": content}


def sha256_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def target_from(document: Mapping[str, Any]) -> Target:
    """The target of a certificate; raises IntsimError if it is none."""
    return Target.from_content(dict(document["content"]), str(document["name"]), "of the certificate")


def built_in(name: str) -> Target | None:
    """The target that intsim itself has under a name; None if it has none."""
    if is_path(name):
        return None
    try:
        return Target.load(name)
    except IntsimError:
        return None


def same_content(target: Target) -> str | None:
    """The name of a built-in target that says the same."""
    members = (f.member(n) for f in Target.families() for n in range(f.low, f.high + 1))
    return next((n for n in (*Target.names(), *members) if Target.load(n) == target), None)


def check_name(target: Target) -> None:
    """Raise IntsimError for a target that is called like a built-in one and is another."""
    known = built_in(target.name)
    if known is not None and known != target:
        raise IntsimError(
            f"target {target.name}: is called like a built-in target but is another; rename it, so that nobody takes "
            "its certificate for one of the built-in target"
        )
