"""Runs mutants: each ends in a result or one line, in time and memory, and what is accepted is what the file says.

What is accepted is held against the reference evaluator of the file, which shares no code with the reading.
"""

import copy
import json
import resource
import signal
import sys
import tomllib
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import tomli_w

import intsim
from intsim import budget
from intsim.inputs import arrays_of, draw
from intsim.proofs.check import check, read
from tests.filelevel import generate
from tests.fuzz import mutate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golden.networks import mixed, packed

ROOT = Path(intsim.__file__).resolve().parents[1]
SECONDS = 20
"""Of the processor, kernels compiled on the way included."""
MEMORY = "512M"
GROWTH = 1 << 30
"""Bytes that a mutant may add to the process's peak."""
NOT_PRINTED = 2000
"""Characters that an error's line has at most."""


class LateError(BaseException):
    """More than `SECONDS`."""


@contextmanager
def in_time(seconds=SECONDS):
    def late(*_):
        raise LateError

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@cache
def seeds():
    """Models that mutants are made of: QONNX, QCDQ, QOperator, integer operators; convolutions, products, pools."""
    made = [generate.network(s).model for s in range(40)]
    return [*made, mixed(), mixed(scale=2.0, zero=False), mixed(convolutions=True), packed()]


def machine(rng):
    return mutate.pick(rng, ["exact", "saturate-12", "wrap-9", "x86-avx2", "finn-mvau", "dsp48e2-int8", "cmsis-nn"])


def model_case(rng, folder):
    """A changed model on a machine: `verify` on `exact` says whether it was read as it is written."""
    model = mutate.mutant(rng, mutate.pick(rng, seeds()))
    target = machine(rng)
    return model, lambda m: on_model(m, target)


def on_model(model, target):
    found = intsim.verify(model, "exact", samples=1, references=False)
    if found.verdict == "diverges":
        return f"read otherwise than the file says: {found.first_divergence}"
    intsim.bounds(model, target)
    intsim.telemetry(model, target, samples=1)
    intsim.certify(model, target, samples=1)
    return None


def bytes_case(rng, folder):
    """A model's file with changed bytes."""
    data = mutate.bytes_mutant(rng, mutate.pick(rng, seeds()).SerializeToString())
    return data, lambda d: on_file(d, folder)


def on_file(data, folder):
    path = Path(folder, "m.onnx")
    path.write_bytes(data)
    return on_model(path, "saturate-12")


def inputs_case(rng, folder):
    """Changed arrays for a model."""
    network = generate.network(int(rng.integers(40)))
    data = mutate.arrays_mutant(rng, network.inputs)
    return data, lambda d: on_inputs(d, network.model, folder)


def on_inputs(data, model, folder):
    path = Path(folder, "x.npz")
    path.write_bytes(data)
    ran = intsim.run(model, "exact", inputs=arrays_of(path))
    odd = [n for n, a in ran.outputs.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]
    return f"outputs {odd} are not finite" if odd else None


@cache
def targets():
    texts = [f.read_text() for f in sorted((ROOT / "hardware" / "targets").glob("*.toml"))]
    return [tomllib.loads(t) for t in texts if "[family]" not in t]


def target_case(rng, folder):
    """A changed target file."""
    tree = mutate.tree_mutant(rng, mutate.pick(rng, targets()))
    try:
        data = tomli_w.dumps(tree).encode()
    except (TypeError, ValueError):  # TOML has no null
        data = json.dumps(tree).encode()
    data = data if rng.random() < 0.8 else mutate.bytes_mutant(rng, data)
    return data, lambda d: on_target(d, folder)


def on_target(data, folder):
    path = Path(folder, "t.toml")
    path.write_bytes(data)
    target = intsim.Target.load(path)
    model = mixed()
    intsim.bounds(model, target)
    found, ran = intsim.certify(model, target, samples=1), intsim.verify(model, target, samples=2, references=False)
    if found.holds and ran.verdict != "exact":
        return f"certified, but {ran.verdict}"
    return None


@cache
def loaded():
    return intsim.load(mixed())


@cache
def certificates():
    names = ("exact", "saturate-12", "x86-avx2", "wrap-9")
    return {name: intsim.certify(loaded(), name, samples=1).to_json() for name in names}


def certificate_case(rng, folder):
    """A changed certificate: nothing but what was written is confirmed."""
    name = mutate.pick(rng, list(certificates()))
    whole = certificates()[name]
    tree = mutate.tree_mutant(rng, whole)
    data = json.dumps(tree).encode()
    data = data if rng.random() < 0.8 else mutate.bytes_mutant(rng, data)
    return data, lambda d: on_certificate(d, whole, folder)


def on_certificate(data, whole, folder):
    path = Path(folder, "c.json")
    path.write_bytes(data)
    content, model = read(path), loaded()
    if not check(content, model, {}, lambda seed: draw(model, seed)).confirmed:
        return None
    same = {k: v for k, v in content.items() if k in whole} == whole
    return None if same else "a changed certificate is confirmed"


KINDS = {
    "model": model_case,
    "bytes": bytes_case,
    "inputs": inputs_case,
    "target": target_case,
    "certificate": certificate_case,
}


def outcome(judge, content):
    """`fine`, `refused`, or what is wrong."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with in_time(), np.errstate(all="ignore"):
            wrong = judge(content)
    except intsim.IntsimError as error:
        text = str(error)
        bad = "\n" in text or "internal error" in text or not text.isprintable() or len(text) > NOT_PRINTED
        return f"message: {text[:200]!r}" if bad else "refused"
    except LateError:
        return f"more than {SECONDS} s"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return wrong or (f"{grown >> 20} MiB more" if grown > GROWTH else "fine")


def one(kind, seed, folder):
    """Outcome of a mutant, and its content."""
    rng = np.random.default_rng([list(KINDS).index(kind), seed])
    content, judge = KINDS[kind](rng, folder)
    return outcome(judge, content), content, judge


def smaller(content, judge, found):
    """A model with fewer parts and the same outcome; other contents as they are."""
    if not isinstance(content, onnx.ModelProto):
        return content
    sort = found.split(":")[0]
    changed = True
    while changed:
        changed = False
        for part in ("node", "initializer", "output"):
            for at in reversed(range(len(getattr(content.graph, part)))):
                trial = copy.deepcopy(content)
                del getattr(trial.graph, part)[at]
                if outcome(judge, trial).split(":")[0] == sort:
                    content, changed = trial, True
    return content


@dataclass
class Campaign:
    """How many mutants ended how; `wrong` are (kind, seed, what)."""

    counts: Counter = field(default_factory=Counter)
    wrong: list = field(default_factory=list)

    def text(self):
        lines = [
            f"{kind}: {self.counts[kind, 'fine']} accepted, {self.counts[kind, 'refused']} refused" for kind in KINDS
        ]
        return "\n".join([*lines, *(f"{k} {s}: {w}" for k, s, w in self.wrong)])


def campaign(mutants, folder, say=lambda done, made: None):
    """Run `mutants`, pairs of a kind and a seed."""
    budget.set_memory(MEMORY)
    made = Campaign()
    try:
        for done, (kind, seed) in enumerate(mutants, 1):
            found, _, _ = one(kind, seed, folder)
            if found in ("fine", "refused"):
                made.counts[kind, found] += 1
            else:
                made.wrong.append((kind, seed, found))
            say(done, made)
    finally:
        budget.set_memory(None)
    return made
