"""Certificates that were changed in their meaning, each with a digest put right: every one is noticed in one line.

A change of one field is `test_certify`'s. Here claims are moved, dropped, merged, renamed and taken from elsewhere.
"""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net

from intsim import cli
from intsim.proofs.certificate import FORMAT, FORMAT_1, FORMAT_2, digest, text
from intsim.proofs.subject import target_content
from intsim.targets import Target


def network(bias: float = 3) -> onnx.ModelProto:
    """Two layers of two channels that differ, the second large: it leaves 16 bits, and is out of reach of 12."""
    net = Net()
    x = net.quant(net.input(1, 4), 1, 0, 8, signed=0)
    w = np.float32([[1, 0, 1, 0], [0, 1, 0, -1], [0, 0, 1, 0], [0, 0, 0, 1]])
    y = net.quant(net.node("Gemm", x, net.quant(w, 1, 0, 2), np.float32([1, -1, 2, 0])), 1, 0, 8, signed=0)
    w = np.float32([[127, 5], [127, -5], [127, 9], [-3, 9]])
    return net.model(net.quant(net.node("Gemm", y, net.quant(w, 1, 0, 8), np.float32([bias, -4])), 300, 0, 8, signed=0))


class Made:
    """The certificates that forgeries are made of: `certified`, `refuted`, `open`, of another target or model."""

    def __init__(self, run: Callable[..., tuple[int, str, str]]) -> None:
        onnx.save(network(), "m.onnx")
        onnx.save(network(bias=4), "other.onnx")
        np.save("quiet.npy", np.zeros((2, 1, 4), np.float32))
        self.content = {}
        for name, args in {
            "certified": ("m.onnx", "-t", "wrap-32"),
            "narrow": ("m.onnx", "-t", "wrap-12", "-n", 3, "--seed", 4),
            "refuted": ("m.onnx", "-t", "x86-avx2", "-n", 2, "--seed", 4),
            "open": ("m.onnx", "-t", "saturate-16", "-i", "quiet.npy"),
            "drawn": ("m.onnx", "-t", "saturate-17", "-n", 2, "--seed", 11),
            "other": ("other.onnx", "-t", "wrap-32"),
        }.items():
            run(*args, "-o", f"{name}.json")
            self.content[name] = json.loads(Path(f"{name}.json").read_text())

    def __call__(self, name: str) -> dict:
        return copy.deepcopy(self.content[name])


FORGERIES: dict[str, Callable[[Made], dict]] = {}


def forgery(make: Callable[[Made], dict]) -> Callable[[Made], dict]:
    FORGERIES[make.__name__] = make
    return make


def edited(name: str, kind: str = "certified") -> Callable[[Callable[[dict, Made], None]], None]:
    """A forgery that edits one certificate in place."""

    def register(edit: Callable[[dict, Made], None]) -> None:
        def make(made: Made) -> dict:
            content = made(kind)
            edit(content, made)
            return content

        FORGERIES[name] = make

    return register


def swap(items: list, *keys: str) -> None:
    """The first two entries, or these fields of theirs, change places."""
    if not keys:
        items[0], items[1] = items[1], items[0]
    for key in keys:
        items[0][key], items[1][key] = items[1][key], items[0][key]


def set_(path: str, value: object) -> Callable[[dict, Made], None]:
    def edit(content: dict, made: Made) -> None:
        *before, last = [int(k) if k.isdecimal() else k for k in path.split(".")]
        place = content
        for key in before:
            place = place[key]
        assert place[last] != value, path
        place[last] = value

    return edit


edited("target renamed to a built-in one")(set_("target.name", "wrap-12"))
edited("target renamed to a family's other member")(set_("target.name", "wrap-33"))
edited("target renamed to exact")(set_("target.name", "exact"))
edited("target's content changed, its hash kept")(set_("target.content.accumulate.stages.0.bits", 31))
edited("target's title changed")(set_("target.content.title", "another title"))
edited("target's hash alone")(set_("target.sha256", "0" * 64))
edited("overflow of the target's register")(set_("target.content.accumulate.stages.0.overflow", "saturate"))
edited("layers swapped")(lambda c, m: swap(c["layers"]))
edited("ranges of layers swapped")(lambda c, m: swap(c["layers"], "low", "high"))
edited("names of layers swapped")(lambda c, m: swap(c["layers"], "name"))
edited("nodes of layers swapped")(lambda c, m: swap(c["layers"], "node", "tensor"))
edited("layer renamed")(set_("layers.1.name", "head"))
edited("layer dropped")(lambda c, m: c["layers"].pop())
edited("layer twice")(lambda c, m: c["layers"].append(c["layers"][0]))
edited("all claims dropped")(lambda c, m: [c[k].clear() for k in ("layers", "requantizers")])
edited("input range narrowed")(set_("layers.1.inputs", [[0, 3]]))
edited("register needs less")(set_("layers.1.stages.0.required_bits", 8))
edited("register wider")(set_("layers.1.stages.0.bits", 33))
edited("fewer channels")(set_("layers.1.channels", 1))
edited("requantizers swapped")(lambda c, m: swap(c["requantizers"]))
edited("range of a requantizer's cell")(set_("requantizers.1.cells.0.low", -(10**6)))
edited("cell dropped")(lambda c, m: c["requantizers"][0]["cells"].pop())
edited("requantizer reads another layer")(set_("requantizers.1.reads", ["nothing"]))
edited("requantizer not equal")(set_("requantizers.0.equal", False))
edited("host work hidden")(set_("host.prologue", ["Div_0 (Div)"]))
edited("model's hash")(set_("model.sha256", "1" * 64))
edited("graph's hash")(set_("model.graph_sha256", "2" * 64))
edited("verdict refuted without a reason")(set_("verdict", "refuted"))
edited("verdict disputed without a reason")(set_("verdict", "disputed"))
edited("samples that nobody searched")(set_("search.samples", 7))
edited("seed of nothing")(set_("search.seed", 5))
edited("given samples that nobody searched")(set_("search", {"samples": 3, "seed": None, "sha256": "3" * 64}))
edited("more integers read")(set_("reading.elements", 10**9))
edited("more inputs read")(lambda c, m: c["reading"]["inputs"].append("drawn"))
edited("other inputs read")(set_("reading.sha256", "4" * 64))
edited("a reading that refused")(set_("reading.refused", "no"))
edited("multipliers asked for")(set_("multipliers", True))
edited("a counterexample invented")(lambda c, m: c["obstacles"].append(m("refuted")["obstacles"][0]))
edited("old format with new claims")(set_("format", FORMAT_1))
edited("counterexample dropped", "refuted")(lambda c, m: c["obstacles"][0]["counterexamples"].pop())
edited("all counterexamples dropped", "refuted")(lambda c, m: c["obstacles"][0]["counterexamples"].clear())
edited("obstacle dropped", "refuted")(lambda c, m: c["obstacles"].pop(0))
edited("status softened", "refuted")(set_("obstacles.0.status", "open"))
edited("expected and got swapped", "refuted")(
    lambda c, m: (e := c["obstacles"][0]["counterexamples"][0]).update(expected=e["got"], got=e["expected"])
)
edited("position moved", "refuted")(lambda c, m: c["obstacles"][0]["counterexamples"][0].update(position=[0, 1]))
edited("inputs of the counterexample emptied", "refuted")(
    lambda c, m: [v.update(at=[], values=[]) for v in c["obstacles"][0]["counterexamples"][0]["inputs"].values()]
)
edited("seed of the samples", "refuted")(set_("search.seed", 5))
edited("sample renumbered", "refuted")(
    lambda c, m: c["obstacles"][0]["counterexamples"][-1]["network"].update(sample=1)
)
edited("another seed searched in vain", "drawn")(set_("search.seed", 9))
edited("fewer samples searched in vain", "drawn")(set_("search.samples", 1))
edited("an open layer called undecided", "open")(
    lambda c, m: (c.update(verdict="undecided"), c["obstacles"][0].update(status="undecided"))
)
edited("claims of the wider target", "narrow")(
    lambda c, m: c.update({k: m("certified")[k] for k in ("layers", "requantizers", "obstacles", "verdict", "reading")})
)
edited("the narrow target in the certificate of the wide one")(lambda c, m: c.update(target=m("narrow")["target"]))
edited("layers of another model")(lambda c, m: c.update(layers=m("other")["layers"]))
edited("model part of another model")(lambda c, m: c.update(model=m("other")["model"]))


@forgery
def open_called_certified(made: Made) -> dict:
    """Without its obstacles, and with clean layers."""
    content = made("open")
    for layer in content["layers"]:
        layer.update(safe_channels=layer["channels"], wrong=[], undecided=[])
        for stage in layer["stages"]:
            stage["unsafe_channels"] = 0
    content.update(verdict="certified", obstacles=[], search={"samples": 0, "seed": None, "sha256": ""})
    return content


@forgery
def another_model(made: Made) -> dict:
    """The certificate of one, said of the other's file."""
    content = made("other")
    content["model"]["file"] = "m.onnx"
    return content


@forgery
def merged(made: Made) -> dict:
    """Layers of one target, requantizers and the rest of another."""
    return {**made("narrow"), "layers": made("certified")["layers"]}


@forgery
def own_content_under_a_built_in_name(made: Made) -> dict:
    """True in itself: a wide register that somebody calls wrap-12."""
    content = made("certified")
    own = Target.from_content({**content["target"]["content"], "title": "mine"}, "wrap-12", "t")
    content["target"] = target_content(own)
    return content


@forgery
def older_content_under_a_built_in_name(made: Made) -> dict:
    """What a built-in target said before its notes were changed; everything else still holds."""
    content = made("certified")
    own = Target.from_content({**content["target"]["content"], "notes": ["an older note"]}, "wrap-32", "t")
    content["target"] = target_content(own)
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("forgeries")


@pytest.fixture
def certify(capfd, monkeypatch, folder):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "500")

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["intsim", "certify", *map(str, args)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capfd.readouterr()
        return int(left.value.code or 0), " ".join(out.split()), err

    return run


MADE: list[Made] = []


@pytest.fixture
def made(certify) -> Made:
    if not MADE:
        MADE.append(Made(certify))
    return MADE[0]


def test_what_was_not_forged_is_confirmed(made, certify):
    for name, verdict in (("certified", "certified"), ("narrow", "refuted"), ("refuted", "refuted"), ("open", "open"),
                          ("drawn", "open"), ("other", "certified")):  # fmt: skip
        assert (made(name)["verdict"], made(name)["format"]) == (verdict, FORMAT)
        code, out, err = certify("--check", f"{name}.json")
        assert (code, err) == (0, ""), out


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_noticed(name, made, certify):
    content = FORGERIES[name](made)
    content["digest"] = digest(content)
    assert content not in made.content.values()
    Path("forged.json").write_text(text(content))
    code, out, err = certify("--check", "forged.json")
    assert code in (1, 2), out
    assert "internal error" not in err
    if code == 1:
        assert err == ""
        assert "not confirmed: forged.json" in out
        assert "digest" not in out
    else:
        assert out == ""
        assert err.count("\n") == 1


def test_a_target_of_its_own_is_named(made, certify):
    """Any name that is no built-in one's is fine; a user's file that is called like a built-in target is not."""
    text_ = (
        'title = "my chip"\nsource = ["s"]\n[accumulate]\nstages = [{ sum = "rest", bits = 40, overflow = "wrap" }]\n'
        '[requantize]\nscheme = "exact"\n'
    )
    Path("chip.toml").write_text(text_)
    Path("wrap-12.toml").write_text(text_)
    assert certify("m.onnx", "-t", "chip.toml", "-o", "chip.json")[0] == 0
    code, out, _ = certify("--check", "chip.json")
    assert code == 0
    assert "a target of its own, defined in the certificate" in out
    assert json.loads(Path("chip.json").read_text())["target"]["sha256"][:16] in out
    code, out, err = certify("m.onnx", "-t", "wrap-12.toml", "-o", "chip2.json")
    assert (code, out) == (2, "")
    assert "called like a built-in target but is another" in err
    assert not Path("chip2.json").exists()
    content = made("certified")
    content["target"]["name"] = "elsewhere"
    content["digest"] = digest(content)
    Path("own.json").write_text(text(content))
    code, out, _ = certify("--check", "own.json")
    assert code == 0
    assert "a target of its own, defined in the certificate, and says what the built-in wrap-32 says" in out
    code, out, _ = certify("--check", "certified.json")
    assert "wrap-32 (SHA-256 " in out
    assert "built in)" in out


def test_given_samples_that_were_searched_in_vain_are_not_kept(made, certify):
    """Nothing can contradict them; it is said that they can't be searched again."""
    code, out, _ = certify("--check", "open.json")
    assert code == 0
    assert ("of 2 samples given 0 are here" in out) == (made("open")["search"]["samples"] == 2)
    content = made("drawn")
    content["search"]["seed"] = None
    content["digest"] = digest(content)
    Path("called.json").write_text(text(content))
    code, out, _ = certify("--check", "called.json")
    assert code == 0
    assert "note: of 2 samples given 0 are here; the others can't be searched again" in out


def format_2(content: dict) -> dict:
    """A certificate as format 2 wrote it."""
    for layer in content["layers"]:
        stages = [{k: v for k, v in s.items() if k != "stage"} for s in layer.pop("stages")]
        renames = {"required_bits": "needs", "unsafe_channels": "unsafe"}
        layer["registers"] = [{renames.get(k, k): v for k, v in s.items()} for s in stages]
        layer["safe"] = layer.pop("safe_channels")
    for claim in content["requantizers"]:
        claim["multiplier_bits"] = claim.pop("exact_multiplier_widths")
        for cell in claim["cells"]:
            cell.update(wrong=cell.pop("wrong_intervals"), refused=cell.pop("refused_intervals"))
    for obstacle in content["obstacles"]:
        for network in (c["network"] for c in obstacle["counterexamples"] if c["network"] is not None):
            network["first"] = network.pop("first_node")
    content["samples"] = content.pop("search")
    content["samples"]["searched"] = content["samples"].pop("samples")
    reading = content["reading"]
    for new, old in (("elements", "integers"), ("cut", "given"), ("disagreement", "first")):
        reading[old] = reading.pop(new)
    return {**content, "format": FORMAT_2}


@pytest.mark.parametrize("name", ["certified", "narrow", "refuted", "open", "drawn"])
def test_a_file_of_format_2_is_read(name, made, certify):
    """Its keys had other names; a changed claim is noticed in it as well."""
    content = format_2(made(name))
    for needs, wanted in ((content["layers"][0]["registers"][0]["needs"], 0), (1, 1)):
        content["layers"][0]["registers"][0]["needs"] = needs
        content["digest"] = digest(content)
        Path(f"{name}2.json").write_text(text(content))
        code, out, err = certify("--check", f"{name}2.json")
        assert (code, err) == (wanted, ""), out
        assert "note: an old format with other keys" in out


def test_an_old_file_is_read_and_its_target_compared(made, certify):
    """Format 1 held no reading of the file; a renamed target is noticed in it as well."""
    content = format_2(made("certified"))
    del content["reading"]
    content.update(format=FORMAT_1, samples={"limit": 1, "searched": 0, "seed": 0})
    for name, wanted in (("wrap-32", 0), ("wrap-12", 1)):
        content["target"]["name"] = name
        content["digest"] = digest(content)
        Path("old.json").write_text(text(content))
        code, out, err = certify("--check", "old.json")
        assert (code, err) == (wanted, "")
        assert "an old format, which doesn't say that the graph was compared with the file; now it was" in out
