"""Checking a certificate: every claim computed again from the model alone, every counterexample run again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import intsim
from intsim.errors import IntsimError
from intsim.model import Inputs, Model
from intsim.proofs.certificate import FORMAT, STATUSES, Counterexample, counterexample_from, differences, digest
from intsim.proofs.certify import Progress, prove
from intsim.proofs.replay import confirm, hashes
from intsim.proofs.subject import identity, target_from

KEYS: dict[str, type] = {
    "intsim": str, "model": dict, "target": dict, "verdict": str, "samples": dict, "host": dict, "layers": list,
    "requantizers": list, "obstacles": list, "multipliers": bool, "digest": str,
}  # fmt: skip
"""What a file must hold, besides its format."""


@dataclass(frozen=True)
class Check:
    """What came of a check. `differences` and `notes` are lines for people; a note contradicts nothing."""

    verdict: str
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    claims: int = 0
    counterexamples: int = 0

    @property
    def confirmed(self) -> bool:
        """Every claim and every counterexample came out as the file says."""
        return not self.differences


def read(path: Path) -> dict[str, Any]:
    """A certificate's content; raises IntsimError for a damaged file and for a format this version doesn't know."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise IntsimError(f"{path}: can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise IntsimError(f"{path}: not a certificate, or damaged: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict) or "format" not in content:
        raise IntsimError(f"{path}: not a certificate, or damaged: it names no format")
    if content["format"] != FORMAT:
        raise IntsimError(f"{path}: format {str(content['format'])[:80]!r} is not {FORMAT}, which this version reads")
    for key, kind in KEYS.items():
        if not isinstance(content.get(key), kind):
            raise IntsimError(f"{path}: damaged: {key} is missing or not of its kind")
    for obstacle in content["obstacles"]:
        if not isinstance(obstacle, dict) or not isinstance(obstacle.get("counterexamples"), list):
            raise IntsimError(f"{path}: damaged: an obstacle has no list of counterexamples")
    if not all(isinstance(content["model"].get(k), str) for k in ("file", "sha256", "graph_sha256")):
        raise IntsimError(f"{path}: damaged: it names no model")
    return content


def sample_numbers(content: Mapping[str, Any]) -> list[int]:
    """Numbers of the samples that a certificate's counterexamples name, ascending."""
    found = set()
    for stated in _counterexamples(content):
        network = stated.get("network") if isinstance(stated, dict) else None
        number = network.get("sample") if isinstance(network, dict) else None
        if type(number) is int:
            found.add(number)
    return sorted(found)


def _counterexamples(content: Mapping[str, Any]) -> list[Any]:
    return [c for obstacle in content["obstacles"] for c in obstacle["counterexamples"]]


def check(
    content: Mapping[str, Any],
    model: Model,
    samples: Mapping[int, Inputs],
    draw: Callable[[int], Inputs] | None = None,
    progress: Progress | None = None,
) -> Check:
    """Compute every claim of a certificate again and run its counterexamples.

    Args:
        content: what `read` returned.
        model: the model, loaded with the same shapes and constants.
        samples: network inputs by number, where the certificate came with some.
        draw: makes the network input of a seed; used for samples that were drawn.
        progress: called with the name of each layer.

    Raises:
        IntsimError: another model, a target that is none, or a sample that is missing.
    """
    mine = identity(model)
    for key, what in (("sha256", "file"), ("graph_sha256", "integer graph; give the same --shape and --constants")):
        if content["model"][key] != mine[key]:
            raise IntsimError(
                f"{model.path}: not the model of the certificate: SHA-256 {mine[key][:16]}... against "
                f"{content['model'][key][:16]}... of its {what}"
            )
    lines = [] if content["digest"] == digest(content) else ["digest: the file was changed after it was written"]
    target = target_from(content["target"])
    given, apart = _samples(content, samples, draw)
    lines += apart
    again = prove(model, target, given.items(), len(given), None, content["multipliers"], progress).to_json()
    notes = []
    if content["intsim"] != intsim.__version__:
        notes.append(f"written by intsim {content['intsim'][:40]}, checked by {intsim.__version__}")
    if content["model"]["file"] != mine["file"]:
        notes.append(f"the certificate calls the model {content['model']['file'][:200]}")
    said = {**content, "model": {**content["model"], "file": mine["file"]}}
    for key in ("intsim", "samples", "digest"):
        said[key] = again[key]
    claims = differences(again, said)
    lines += claims
    stated = _counterexamples(content)
    for i, entry in enumerate(stated):
        lines += [f"counterexample {i + 1}: {line}" for line in _run(model, target, entry, given)]
    counted = sum(len(again[k]) for k in ("layers", "requantizers", "obstacles"))
    return Check(content["verdict"] if content["verdict"] in STATUSES else "?", lines, notes, counted, len(stated))


def _run(model: Model, target: Any, entry: Any, samples: Mapping[int, Inputs]) -> list[str]:
    try:
        stated: Counterexample = counterexample_from(entry)
    except IntsimError as error:
        return [str(error)]
    number = stated.network.sample if stated.network is not None else None
    return confirm(model, target, stated, None if number is None else samples.get(number))


def _samples(
    content: Mapping[str, Any], given: Mapping[int, Inputs], draw: Callable[[int], Inputs] | None
) -> tuple[dict[int, Inputs], list[str]]:
    """The samples that counterexamples name, and what is wrong with what the file says of them."""
    said, numbers = content["samples"], sample_numbers(content)
    limit, searched, seed = (said.get(k) for k in ("limit", "searched", "seed"))
    counts = [v for v in (limit, searched) if type(v) is int and v >= 0]
    if len(counts) < 2 or counts[1] > counts[0] or not (seed is None or (type(seed) is int and 0 <= seed < 1 << 63)):
        return {}, [f"samples: {json.dumps(said)[:80]} can't be"]
    lines = [f"samples: sample {n} is named, {searched} were searched" for n in numbers if not 0 <= n < counts[1]]
    found: dict[int, Inputs] = {}
    for number in numbers:
        drawn = draw(seed + number) if seed is not None and draw is not None and number >= 0 else None
        inputs = given.get(number, drawn)
        if inputs is None:
            raise IntsimError(f"sample {number} of the certificate is missing; keep its .npz file beside it")
        if drawn is not None and hashes(drawn) != hashes(inputs):
            lines.append(f"samples: sample {number} is not the one that seed {seed} draws")
        found[number] = inputs
    return found, lines
