"""Checking a certificate: every claim computed again from the model alone, every counterexample run again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import intsim
from intsim.budget import contents
from intsim.errors import IntsimError
from intsim.inputs import Sample
from intsim.model import Model
from intsim.proofs.certificate import FORMAT_1, FORMAT_2, Certificate, differences, digest
from intsim.proofs.certify import Progress, prove
from intsim.proofs.replay import Replay, hashes
from intsim.proofs.schema import counterexample, parsed, validated
from intsim.proofs.subject import built_in, identity, same_content, target_content, target_from
from intsim.targets import Target


@dataclass(frozen=True)
class Check:
    """What came of a check. `differences` and `notes` are lines for people; a note contradicts nothing.

    `target` names the target with its hash and says whose it is.
    """

    verdict: str
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    claims: int = 0
    counterexamples: int = 0
    elements: int = 0
    target: str = ""

    @property
    def confirmed(self) -> bool:
        """Every claim and every counterexample came out as the file says."""
        return not self.differences


def read(path: Path) -> dict[str, Any]:
    """A certificate's content; raises IntsimError for a damaged file and for a format this version doesn't know."""
    data = contents(path)
    try:
        content: dict[str, Any] = parsed(data)
        validated(content)
        return content
    except IntsimError as error:
        raise IntsimError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise IntsimError(f"{path}: not a certificate, or damaged: {' '.join(str(error).split())[:200]}") from error


def sample_numbers(content: Mapping[str, Any]) -> list[int]:
    """Numbers of the samples that a certificate's counterexamples name, ascending."""
    networks = [c["network"] for c in _counterexamples(content) if c.get("network") is not None]
    return sorted({n["sample"] for n in networks if n["sample"] is not None})


def _counterexamples(content: Mapping[str, Any]) -> list[Any]:
    return [c for obstacle in content["obstacles"] for c in obstacle.get("counterexamples", [])]


def check(
    content: Mapping[str, Any],
    model: Model,
    samples: Mapping[int, Sample],
    draw: Callable[[int], Sample] | None = None,
    progress: Progress | None = None,
) -> Check:
    """Compute every claim of a certificate again and run its counterexamples.

    Args:
        content: what `read` returned.
        model: the model, loaded with the same shapes, ranges and constants.
        samples: network inputs by number, where the certificate came with some.
        draw: makes the network input of a seed; used for samples that were drawn.
        progress: called with the name of each layer.

    Raises:
        IntsimError: a damaged certificate, another model, a target that is none, or a sample that is missing.
    """
    unchanged = isinstance(content, Mapping) and content.get("digest") == digest(content)
    content = validated(content)
    mine = identity(model)
    if content["model"]["sha256"] != mine["sha256"]:
        raise IntsimError(
            f"{model.path}: not the model of the certificate: SHA-256 {mine['sha256'][:16]}... against "
            f"{content['model']['sha256'][:16]}... of its file"
        )
    lines = [] if unchanged else ["digest: the file was changed after it was written"]
    if content["model"]["graph_sha256"] != mine["graph_sha256"]:
        lines.append(
            f"model: its file is lowered to another integer graph than by intsim {content['intsim']}, which wrote it; "
            "give the same --shape, --range and --constants, or certify again"
        )
    target = target_from(content["target"])
    whose, renamed = _whose(target)
    lines += renamed
    given, apart = _samples(content, samples, draw)
    lines += apart
    said = content["search"]
    drawn = None if said["seed"] is None else draw
    searched: Iterable[tuple[int, Sample]] = given.items()
    if drawn is not None:
        searched = ((i, drawn(said["seed"] + i)) for i in range(said["samples"]))
    proven = prove(model, target, searched, said["seed"], content["multipliers"], progress)
    again = proven.to_json()
    notes = _notes(content, mine["file"])
    claims = {**content, "model": {**content["model"], "file": mine["file"]}}
    if content["format"] == FORMAT_1:
        claims |= {"reading": again["reading"], "search": again["search"]}
    elif drawn is None and len(given) < said["samples"] and _searches(proven):
        notes.append(f"of {said['samples']} samples given {len(given)} are here; the others can't be searched again")
        claims["search"] = again["search"]
    for key in ("format", "intsim", "digest"):
        claims[key] = again[key]
    lines += differences(again, claims)
    stated = [counterexample(entry) for entry in _counterexamples(content)]
    replay = Replay(model, target)
    for number, example in enumerate(stated, 1):
        sample = given.get(example.network.sample) if example.network and example.network.sample is not None else None
        lines += [f"counterexample {number}: {line}" for line in replay.confirm(example, sample)]
    counted = sum(len(again[k]) for k in ("layers", "requantizers", "obstacles"))
    return Check(content["verdict"], lines, notes, counted, len(stated), proven.reading.elements, whose)


def _whose(target: Target) -> tuple[str, list[str]]:
    """The target in words, and what is wrong with its name."""
    mine = target_content(target)["sha256"]
    known = built_in(target.name)
    what = f"{target.name} (SHA-256 {mine[:16]}..., "
    if known is None:
        same = same_content(target)
        like = "" if same is None else f", and says what the built-in {same} says"
        return f"{what}a target of its own, defined in the certificate{like})", []
    if known == target:
        return what + "built in)", []
    theirs = target_content(known)["sha256"]
    return what + "not the built-in target of that name)", [
        f"target.name: {target.name} is a built-in target, and the certificate's content is another one or an older "
        f"one: SHA-256 {mine[:16]}... against {theirs[:16]}..."
    ]


def _searches(proven: Certificate) -> bool:
    """Whether samples are searched at all: some obstacle has no network input without them."""
    sampled = (
        c.network is not None and c.network.sample is not None for o in proven.obstacles for c in o.counterexamples
    )
    return any(o.status != "refuted" for o in proven.obstacles) or any(sampled)


def _notes(content: Mapping[str, Any], file: str) -> list[str]:
    notes = []
    if content["intsim"] != intsim.__version__:
        notes.append(f"written by intsim {content['intsim'][:40]}, checked by {intsim.__version__}")
    if content["model"]["file"] != file:
        notes.append(f"the certificate calls the model {content['model']['file'][:200]}")
    old = {
        FORMAT_2: "an old format with other keys",
        FORMAT_1: "an old format, which doesn't say that the graph was compared with the file; now it was",
    }
    return notes + [note for kind, note in old.items() if kind == content["format"]]


def _samples(
    content: Mapping[str, Any], given: Mapping[int, Sample], draw: Callable[[int], Sample] | None
) -> tuple[dict[int, Sample], list[str]]:
    """The samples that counterexamples name, and what is wrong with what the file says of them."""
    said, numbers = content["search"], sample_numbers(content)
    searched, seed = said["samples"], said["seed"]
    lines = [f"samples: sample {n} is named, {searched} were searched" for n in numbers if not 0 <= n < searched]
    samples: dict[int, Sample] = {}
    for number in numbers:
        drawn = draw(seed + number) if seed is not None and draw is not None and number >= 0 else None
        inputs = given.get(number, drawn)
        if inputs is None:
            raise IntsimError(f"sample {number} of the certificate is missing; keep its .npz file beside it")
        if drawn is not None and hashes(drawn) != hashes(inputs):
            lines.append(f"samples: sample {number} is not the one that seed {seed} draws")
        samples[number] = inputs
    return samples, lines
