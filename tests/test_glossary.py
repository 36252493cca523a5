"""Words: what every verb prints, as JSON and as tables, against docs/json.md and docs/glossary.md."""

import json
import re
import sqlite3
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from proofs.test_forgeries import network

import intsim
from intsim import cli
from intsim.proofs.certificate import Disagreement
from intsim.report.html import html
from intsim.report.table import Column
from intsim.rtl import Area, Cosimulation
from intsim.rtl.trace import Mismatch
from intsim.verification.witness import Witnessed, WitnessedLayer, WitnessedOutput

pytestmark = pytest.mark.xdist_group("glossary")  # what its tests share is made once

DOCS = Path(__file__).parent.parent / "docs"
VERBS: dict[str, tuple[str, ...]] = {
    "inspect": ("inspect", "m.onnx"),
    "lower": ("lower", "m.onnx", "--out", "lowered"),
    "run": ("run", "m.onnx", "--target", "x86-avx2", "--profile"),
    "verify": ("verify", "m.onnx", "--target", "x86-avx2", "--samples", "2"),
    "bounds": ("bounds", "m.onnx", "--target", "x86-avx2", "--witness", "witness"),
    "propose": ("bounds", "m.onnx", "--target", "x86-avx2", "--propose", "own.toml"),
    "telemetry": ("telemetry", "m.onnx", "--target", "x86-avx2", "--channels"),
    "plain telemetry": ("telemetry", "m.onnx"),
    "evaluate": ("evaluate", "m.onnx", "--target", "wrap-9", "-n", "3", "--metric", "sqnr", "--metric", "mae"),
    "sweep": ("sweep", "m.onnx", "-a", "8,12", "-m", "8", "--axis", "weights=3", "--out", "sweep"),
    "observed": ("sweep", "m.onnx", "--propose", "--metric", "sqnr", "--keep", "20", "-n", "2", "--out", "observed"),
    "search": ("search", "m.onnx", "-w", "3:8", "--slack", "2", "--trials", "6", "--out", "search"),
    "narrow": ("narrow", "m.onnx", "-w", "4", "-a", "6", "--out", "narrow.onnx"),
    "certify": ("certify", "m.onnx", "--target", "x86-avx2", "-n", "2", "--multipliers", "--out", "certificate.json"),
    "open": ("certify", "m.onnx", "--target", "saturate-16", "-n", "0"),
    "check": ("certify", "--check", "certificate.json"),
    "vectors": ("vectors", "m.onnx", "--target", "x86-avx2", "--out", "vectors", "--partial"),
    "one layer": ("vectors", "m.onnx", "--target", "fixed-point-16", "--out", "more", "--layer", "Gemm_gemm10"),
    "trace": ("vectors", "m.onnx", "--target", "arm-neon-int8", "--trace", "Gemm_gemm10:1"),
    "compare": ("compare", "vectors", "wrong.npz"),
    "identify": ("identify", "more", "one.npz", "--next", "1", "next.npz"),
    "discriminate": ("vectors", "m.onnx", "--out", "probes", "--layer", "Gemm_gemm10", "--discriminate", "2"),
    "advise": ("advise", "m.onnx", "--target", "onnxruntime-vnni", "--target", "x86-avx2"),
    "targets": ("targets",),
    "report": ("report", "sweep", "certificate.json", "lowered", "--markdown", "summary.md"),
    "emit": ("emit", "hilbert", "--order", "1", "--code-bits", "4", "-o", "decoder"),
}
WITNESSED = Witnessed(
    *("m.onnx", "onnxruntime-vnni", "onnxruntime", "1.31.1", 1, 0),
    layers=[WitnessedLayer("conv", "Conv", "y", 9, 1, 2, 3, {"position": [0, 1], "predicted": 4, "got": 6})],
    outputs=[WitnessedOutput("y", 9, 1)],
    hidden=["relu"],
)
"""What `witness` makes where the runtime can be run; tests/test_cli_runtimes.py runs it."""

COSIMULATED = Cosimulation("top", "icarus", 9, 12, 1, Mismatch("differs", 7, "y", 4, -3, "x5"))
"""What `cosim` makes where a simulator is installed; tests/rtl runs it."""


@dataclass
class Key:
    """A line of docs/json.md: what a key holds, and the keys of its tables if it holds any."""

    kind: str
    shape: str
    optional: bool
    keys: dict[str, "Key"] = field(default_factory=dict)


def described() -> dict[str, Key]:
    """The documents of docs/json.md by format."""
    documents = {}
    for block in re.findall(r"```\n(.*?)```", (DOCS / "json.md").read_text(), re.DOTALL):
        root: dict[str, Key] = {}
        levels = [root]
        for line in block.splitlines():
            indent, name, shape, optional, rest = re.fullmatch(
                r"( *)(\w+)(\[\]|\{\w+\})?(\?)?(?: +(.*))?", line
            ).groups()
            level = len(indent) // 2
            same = re.fullmatch(r"as (\w+)", rest or "")
            key = Key((rest or "").partition(":")[0], shape or "", bool(optional))
            if same:
                key = levels[level][same[1]]
            levels[level][name] = key
            levels[level + 1 :] = [key.keys]
        kind = re.search(r"^format +text: (\S+)", block)[1]
        documents[kind] = root
    return documents


TYPES: dict[str, Any] = {
    "text": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "null": lambda v: v is None,
    "texts": lambda v: isinstance(v, list) and all(map(TYPES["text"], v)),
    "integers": lambda v: isinstance(v, list) and all(map(TYPES["integer"], v)),
    "lists": lambda v: isinstance(v, list) and all(map(TYPES["integers"], v)),
    "anything": lambda v: True,
}


def problems(keys: dict[str, Key], table: Any, path: str) -> list[str]:
    """Where a table is not what the page says of it."""
    if not isinstance(table, dict):
        return [f"{path}: not a table"]
    found = [f"{path}.{k}: not on the page" for k in table.keys() - keys.keys()]
    found += [f"{path}.{k}: missing" for k, key in keys.items() if k not in table and not key.optional]
    for name, key in keys.items():
        if name not in table:
            continue
        value, at = table[name], f"{path}.{name}"
        if value is None and "null" in key.kind:
            continue
        parts = [value]
        if key.shape:
            if not isinstance(value, list if key.shape == "[]" else dict):
                found.append(f"{at}: not {key.shape}")
                continue
            parts = list(value.values() if isinstance(value, dict) else value)
        for part in parts:
            if key.keys:
                found += problems(key.keys, part, at)
            elif not any(TYPES[kind](part) for kind in key.kind.split(" or ")):
                found.append(f"{at}: {part!r} is not {key.kind}")
    return found


def words(keys: dict[str, Key]) -> set[str]:
    """All keys, however deep."""
    return keys.keys() | {w for key in keys.values() for w in words(key.keys)}


def glossary() -> list[str]:
    return re.findall(r"^\| `(.+?)` \|", (DOCS / "glossary.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module", params=["nodes", "modules"])
def folder(request, tmp_path_factory) -> Path:
    """With a file that names its nodes alone, or modules as torch's exporter does."""
    path, model = tmp_path_factory.mktemp("words"), network()
    for i, node in enumerate(model.graph.node if request.param == "modules" else []):
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=repr(["", f"body.{i}", "operation"]))
    onnx.save(model, path / "m.onnx")
    return path


@pytest.fixture
def heads(monkeypatch) -> set[str]:
    """Heads of the tables that are made, without numbers: `stage 1` is `stage`, `bits 3..17` is `bits`."""
    seen: set[str] = set()
    make = Column.__init__

    def column(self: Column, head: str, *args: Any, **kwargs: Any) -> None:
        make(self, head, *args, **kwargs)
        seen.add(re.sub(r" \d+(\.\.\d+)?$|^(wrap|saturate) ", "", self.name).lower().replace(" ", "_"))

    monkeypatch.setattr(Column, "__init__", column)
    return seen


def printed(name: str, *options: str) -> None:
    """Have a verb print."""
    sys.argv = ["intsim", *VERBS[name], *options]
    if name == "compare":
        np.savez("wrong.npz", **{n: 1 - np.load(p) for n, p in _outputs("vectors")})
    if name == "identify":
        np.savez("one.npz", **{n: np.load(p) for n, p in _outputs("more")})
    with pytest.raises(SystemExit):
        cli.main()


def _outputs(folder: str) -> list[tuple[str, str]]:
    """The layers of a folder of vectors, and their codes."""
    layers = json.loads(Path(folder, "manifest.json").read_text())["layers"]
    return [(x["name"], f"{folder}/{x['tensors'][-1]['files']['npy']}") for x in layers]


def test_every_document_is_on_the_page(folder, monkeypatch, capfd):
    """Each verb's JSON, and the JSON of the files it writes, key by key and type by type."""
    monkeypatch.chdir(folder)
    page, seen = described(), set()

    def check(document: Any, what: str) -> None:
        seen.add(document["format"])
        assert problems(page[document["format"]], document, what) == []

    for name in VERBS:
        monkeypatch.setattr(sys, "argv", [])
        printed(name, "--json")
        out, err = capfd.readouterr()
        assert err == "", name
        check(json.loads(out), name)
    check(json.loads(Path("lowered/2_graph.json").read_text()), "graph")
    with sqlite3.connect("sweep/rows.sqlite") as file:
        (head,), (row,) = (file.execute(f"SELECT content FROM {table}").fetchone() for table in ("head", "rows"))
    file.close()
    check(json.loads(head), "rows")
    assert problems(page["intsim-sweep-2"]["rows"].keys, json.loads(row), "rows") == []
    proven = intsim.certify("m.onnx")
    wrong = Disagreement(0, "conv", "Conv", "y", [0, 1], 1.5, 2)
    check(replace(proven, reading=replace(proven.reading, disagreement=wrong)).to_json(), "disputed")
    check(WITNESSED.to_json(), "witness")
    check(COSIMULATED.to_json(), "cosim")
    check(Area("top", "ice40", "0.70", 9, 8, 1, 0, 4, 3).to_json(), "area")
    check({"format": "intsim-warmup-1", "compiled": 1, "loaded": 2, "seconds": 0.5, "folder": None}, "warmup")
    assert seen == page.keys()


def test_the_glossary_holds_every_key_and_head(folder, monkeypatch, heads):
    """And no other word."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [])
    for name in VERBS:
        printed(name)
    html(intsim.run("m.onnx", "wrap-9"))
    html(WITNESSED)
    entries = glossary()
    assert entries == sorted(set(entries))
    used = heads | {w for keys in described().values() for w in words(keys)}
    with Path("sweep/sweep.csv").open() as file:
        used |= set(file.readline().strip().split(","))
    assert sorted(used - set(entries)) == []
    assert sorted(set(entries) - used) == []
