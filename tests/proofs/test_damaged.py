"""Damaged certificates: whatever stands where in the file, it is refused or contradicted in one line."""

import contextlib
import copy
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from test_forgeries import network

import intsim
from intsim.errors import IntsimError
from intsim.inputs import draw
from intsim.proofs.certificate import digest
from intsim.proofs.check import Check, check, read, sample_numbers

DEEP: object = 1
for _ in range(300):
    DEEP = [DEEP]
ODD = [None, True, False, 0, 1, -1, 7, 2**31, -(2**63), 2**63, 10**30, 0.5, 1e300, float("nan"), float("inf"), "", "x",
       "0", "\ud800", "a\nb\x1b[2J", "../../etc/passwd", "exact", "wrap-12", "x" * 5000, [], {}, [[]], [1, "x"], [None],
       {"x": 1}, {"": {}}, ["x"] * 40, DEEP]  # fmt: skip
"""What a node of the file is replaced by."""


def nodes(value, path=()):
    """Every place of a document, the root left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from nodes(item, (*path, key))


def mutant(content: dict, places: list[tuple], rng: np.random.Generator) -> dict:
    """One to three places replaced, deleted, doubled, renamed, reversed, or filled from another place."""
    other = copy.deepcopy(content)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        *before, last = places[int(rng.integers(len(places)))]
        place = other
        try:
            for key in before:
                place = place[key]
            old = place[last]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
        if not isinstance(place, dict | list):
            continue
        kind = rng.integers(8)
        if kind == 0:
            del place[last]
        elif kind == 1 and isinstance(place, dict):
            place[f"{last}x"] = place.pop(last)
        elif kind == 2 and isinstance(place, list):
            place.insert(last, copy.deepcopy(old))
        elif kind == 3 and isinstance(old, list):
            old.reverse()
        elif kind == 4 and type(old) is int:
            place[last] = int(old + rng.choice([-1, 1, -(2**40), 2**40, -old - 1]))
        elif kind == 5:
            source = other
            for key in places[int(rng.integers(len(places)))]:
                try:
                    source = source[key]
                except (KeyError, IndexError, TypeError):
                    break
            place[last] = copy.deepcopy(source)
        else:
            place[last] = ODD[int(rng.integers(len(ODD)))]
    if rng.integers(4) and "digest" in other:
        with contextlib.suppress(ValueError):  # half a character
            other["digest"] = digest(other)
    return other


@pytest.fixture(scope="module")
def refuted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    onnx.save(network(), folder / "m.onnx")
    model = intsim.load(folder / "m.onnx")
    found = intsim.certify(model, "x86-avx2", samples=2, seed=4)
    return folder, model, json.loads(found.text())


def checked(folder: Path, model: intsim.Model, content: object) -> Check | None:
    """None where it is refused in one line; anything but IntsimError gets out."""
    path = folder / "c.json"
    try:
        path.write_text(json.dumps(content))
    except (ValueError, RecursionError):
        return None
    try:
        document = read(path)
        sample_numbers(document)
        return check(document, model, {}, lambda seed: draw(model, seed))
    except IntsimError as error:
        return None if "\n" not in str(error) else Check("?", notes=["more than a line"])


def test_a_damaged_file_gives_a_line(refuted):
    """Seeded mutants: none gets out but as IntsimError, and only what says the same thing is confirmed."""
    folder, model, content = refuted
    places = list(nodes(content))
    counts = {"refused": 0, "not confirmed": 0, "confirmed": 0}
    for seed in range(300):
        damaged = mutant(content, places, np.random.default_rng(seed))
        found = checked(folder, model, damaged)
        counts["refused" if found is None else "confirmed" if found.confirmed else "not confirmed"] += 1
        assert found is None or found.notes != ["more than a line"]
        if found is not None and found.confirmed and not found.notes:
            own = "a target of its own" in found.target  # another name of it, and the same content
            rest = {**damaged, "digest": content["digest"]}
            if own:
                rest["target"] = {**rest["target"], "name": content["target"]["name"]}
            assert rest == content, seed
    assert min(counts["refused"], counts["not confirmed"]) > 20, counts


@pytest.mark.parametrize("odd", [pytest.param(n, marks=[pytest.mark.slow] * (n % 3 > 0)) for n in range(len(ODD))])
def test_any_value_at_the_top(refuted, odd):
    """Each of the file's parts, and each of the target's and a counterexample's, replaced by each odd value."""
    folder, model, content = refuted
    stated = ("obstacles", 0, "counterexamples", 0)
    tops = [p for p in nodes(content) if len(p) == 1 or p[0] in ("target", "model", "samples", "reading")]
    tops += [p for p in nodes(content) if p[:4] == stated and len(p) <= 6]
    for path in tops:
        damaged = copy.deepcopy(content)
        place = damaged
        for key in path[:-1]:
            place = place[key]
        if type(place[path[-1]]) is type(ODD[odd]) and place[path[-1]] == ODD[odd]:
            continue
        place[path[-1]] = ODD[odd]
        if path != ("digest",) and odd % 2:
            try:
                damaged["digest"] = digest(damaged)
            except (ValueError, RecursionError):
                continue
        found = checked(folder, model, damaged)
        free = path in (("intsim",), ("target", "name"), ("model", "file"))
        assert found is None or not found.confirmed or free, (path, ODD[odd])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"format": "intsim-certificate-3", "format": "intsim-certificate-3"}',
        b"1" * 10_000,
        b"\xef\xbb\xbf{}",
        b'{"format": ["intsim-certificate-3"]}',
        b'{"format": "\\ud800"}',
        b"NaN",
    ],
)
def test_what_is_no_certificate_at_all(tmp_path, data):
    (tmp_path / "c.json").write_bytes(data)
    with pytest.raises(IntsimError, match=r"c\.json: ") as caught:
        read(tmp_path / "c.json")
    assert "\n" not in str(caught.value)


def test_a_name_stands_once(refuted):
    """A second verdict behind the first: readers of the file would see one, and the check the other."""
    folder, _, content = refuted
    text = json.dumps(content)
    (folder / "twice.json").write_text(
        text.replace('"verdict": "refuted"', '"verdict": "certified", "verdict": "refuted"')
    )
    with pytest.raises(IntsimError, match="a name stands twice in one table"):
        read(folder / "twice.json")
