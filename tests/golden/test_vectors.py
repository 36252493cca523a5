"""Folders of vectors: orders, registers, reproduction, and what is refused."""

import hashlib
import json
import weakref

import numpy as np
import pytest
from frontend.build import Net

import intsim
from intsim.arithmetic.schedule import schedule
from intsim.errors import IntsimError
from intsim.golden import vectors as module
from intsim.golden.vectors import position
from intsim.targets import Target

from . import networks, twin


@pytest.fixture(scope="module")
def model():
    return intsim.load(networks.mixed())


def tensors(folder, made, layer):
    """Stored arrays of a layer by role."""
    entry = next(x for x in made.manifest["layers"] if x["name"] == layer)
    return {t["role"]: np.load(folder / t["files"]["npy"]) for t in entry["tensors"]}


def test_orders(tmp_path, model):
    """Each order as numpy would have it, from the network's own."""
    stored = {}
    for order in ("NCHW", "NHWC", "finn", "hls4ml"):
        made = intsim.vectors(model, out=tmp_path / order, order=order, formats=["npy"])
        stored[order] = {n: tensors(tmp_path / order, made, n) for n in ("first", "each", "mean", "last")}
    own = stored["NCHW"]
    for layer in ("first", "each", "mean"):
        for order in ("NHWC", "finn", "hls4ml"):
            for role in ("operand", "output", "accumulator"):
                assert np.array_equal(stored[order][layer][role], own[layer][role].transpose(0, 2, 3, 1))
    for layer in ("first", "each"):
        weight = own[layer]["weight"]
        assert np.array_equal(stored["NHWC"][layer]["weight"], weight.transpose(0, 2, 3, 1))
        assert np.array_equal(stored["hls4ml"][layer]["weight"], weight.transpose(2, 3, 1, 0))
        # FINN, LowerConvsToMatMul: [OFM][IFM][kH][kW] to [OFM][kH][kW][IFM], a matrix, transposed
        matrix = weight.transpose(0, 2, 3, 1).reshape(weight.shape[0], -1).T
        assert np.array_equal(stored["finn"][layer]["weight"], matrix)
    for order in ("NHWC", "finn", "hls4ml"):
        assert all(np.array_equal(stored[order]["last"][r], own["last"][r]) for r in ("operand", "weight", "output"))


@pytest.mark.parametrize(
    ("target", "kind"), [("saturate-12", "s12"), ("wrap-40", "s40"), ("dsp-40", "s32"), ("hls4ml-saturate-10", "s10")]
)
def test_accumulators_are_as_wide_as_the_last_register(tmp_path, target, kind):
    network = networks.packed() if target.startswith("hls4ml") else networks.mixed()
    made = intsim.vectors(network, target, out=tmp_path / "v", formats=["npy"], seed=2)
    entries = [t for x in made.manifest["layers"] if x["products"] for t in x["tensors"] if t["role"] == "accumulator"]
    assert entries
    assert {t["type"] for t in entries} == {kind}


def test_finn_folds_channels_into_words(tmp_path):
    """As npy_to_rtlsim_input packs folded inputs: SIMD channels of a pixel a word, the first in the lowest bits."""
    made = intsim.vectors(
        networks.packed(), out=tmp_path / "v", order="finn", formats=["npy", "words"], bus_bits=8, samples=2
    )
    entry = next(t for t in made.manifest["layers"][0]["tensors"] if t["role"] == "operand")
    pixels = np.load(tmp_path / "v" / entry["files"]["npy"]).reshape(-1, 3)  # u4, two a word: one word is half full
    wanted = [w for a, b, c in pixels.tolist() for w in (a | b << 4, c)]
    assert [int(w, 16) for w in (tmp_path / "v" / entry["files"]["words"]).read_text().split("\n")[1:-1]] == wanted


@pytest.mark.parametrize("target", ["x86-avx2", "arm-neon-int8", "dsp48e2-int4", "wrap-9", "hls4ml-8", "exact"])
def test_registers_and_traces(tmp_path, target):
    """A trace ends in the accumulator, and each register's last value is what --partial says it holds."""
    network = (
        networks.packed() if target.startswith(("dsp", "hls4ml")) else networks.mixed(signed=target.startswith("arm"))
    )
    name = "conv" if target.startswith(("dsp", "hls4ml")) else "first"
    made = intsim.vectors(network, target, out=tmp_path / "v", partial=True, formats=["npy"], seed=2)
    found, stages = tensors(tmp_path / "v", made, name), Target.load(target).stages
    acc = found["accumulator"]
    rng = np.random.default_rng(0)
    for at in [(0, 0, 0, 0), tuple(n - 1 for n in acc.shape), *(tuple(rng.integers(0, acc.shape)) for _ in range(3))]:
        told = intsim.trace_output(network, name, at[1:], target, seed=2)
        assert told.total == acc[at]
        assert told.position == at
        products = [a for a in told.additions if a.adds == "product"]
        assert all(a.added == a.activation * a.weight or "hls4ml" in target for a in products)
        assert len(products) == 27
        order = [a.stage - 1 for a in told.additions if a.adds in ("product", "register")]
        assert order == (schedule(27, stages).stage.tolist() if stages else [0] * 27)
        for i, stage in enumerate(stages):
            held = np.atleast_1d(found[f"partial_{i + 1}"][at])
            for lane in range(stage.lanes):
                values = [a.value for a in told.additions if (a.stage, a.lane) == (i + 1, lane)]
                assert held[lane] == (values[-1] if values else 0)
    assert any(a.overflow for a in told.additions) == (target in ("wrap-9", "hls4ml-8"))


def test_a_trace_says_where_a_register_overflowed():
    told = intsim.trace_output(networks.mixed(), "first", (1, 0, 0), "wrap-12")
    held = 0
    for addition in told.additions:
        assert addition.overflow == (addition.value != held + addition.added)
        assert addition.value == twin.wrap(held + addition.added, 12)
        held = addition.value
    assert sum(a.overflow for a in told.additions) > 3
    assert told.to_json()["additions"][0]["adds"] == "product"


def test_byte_for_byte(tmp_path, model):
    """Twice the same, in a folder of another name, over what was there before."""
    kinds = ["npy", "hex", "words", "c"]
    for name in ("a", "b", "b"):
        intsim.vectors(model, "x86-avx2", out=tmp_path / name, partial=True, formats=kinds, samples=2, seed=1)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*") if p.is_file())
    assert len(files) > 100
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    for tensor in (t for x in manifest["layers"] for t in x["tensors"]):
        for kind, path in tensor["files"].items():
            assert hashlib.sha256((tmp_path / "a" / path).read_bytes()).hexdigest() == tensor["sha256"][kind]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_one_layer_is_what_all_are(tmp_path, model):
    whole = intsim.vectors(model, "wrap-12", out=tmp_path / "a", formats=["npy"])
    one = intsim.vectors(model, "wrap-12", out=tmp_path / "b", formats=["npy"], layer=["each"])
    assert [x["name"] for x in one.manifest["layers"]] == ["each"]
    a, b = (tensors(tmp_path / n, m, "each") for n, m in (("a", whole), ("b", one)))
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[k], b[k]) for k in a)


def test_nothing_is_left_after_an_interruption(tmp_path, model):
    """Nor is what was there before gone."""
    intsim.vectors(model, out=tmp_path / "v", formats=["npy"])
    before = (tmp_path / "v" / "manifest.json").read_bytes()
    calls = []

    def stop(text):
        calls.append(text)
        if len(calls) == 4:
            raise KeyboardInterrupt

    for name in ("v", "new"):
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            intsim.vectors(model, "x86-avx2", out=tmp_path / name, progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["v"]
    assert (tmp_path / "v" / "manifest.json").read_bytes() == before


def test_a_folder_of_someone_else_stays(tmp_path, model):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"format": "else"}')
    for name, said in (("mine", "did not write"), ("file", "is a file"), ("other", "did not write")):
        with pytest.raises(IntsimError, match=said):
            intsim.vectors(model, out=tmp_path / name)
    with pytest.raises(IntsimError, match="can't be written"):
        intsim.vectors(model, out="/proc/nothing/v")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "manifest.json", "mine", "other", "thesis.tex"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": ["nothing"]}, "no layer 'nothing'; its layers are first, each"),
        ({"formats": ["bin"]}, "format 'bin': allowed: npy, hex, words, c"),
        ({"formats": []}, "give one or more"),
        ({"formats": ["npy", "npy"]}, "each once"),
        ({"bus_bits": 0}, "bus of 0 bits; allowed: 1..65536"),
        ({"order": "CHWN"}, "order 'CHWN': allowed: NCHW, NHWC, finn, hls4ml"),
        ({"target": "dsp48e2-int4"}, "doesn't fit the target's u4 operand"),
        ({"inputs": np.full((1, 3, 6, 5), np.nan, np.float32)}, "NaN"),
        ({"samples": 0}, "samples 0"),
    ],
)
def test_refusals(tmp_path, options, said):
    with pytest.raises(IntsimError, match=said):
        intsim.vectors(networks.mixed(), out=tmp_path / "v", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["conv", "conv:", ":1,2", "conv:a", "conv:1,-2"])
def test_positions_that_are_none(text):
    with pytest.raises(IntsimError, match="not of the form LAYER:c,y,x"):
        position(text)


def test_memory_follows_the_largest_layer(model):
    """A tensor is dropped after its last reader."""
    runs = module.machine(model.graph, Target.load("exact"))
    found = module.layers(runs.graph, model.graph)
    made, alive = [], []
    for step in module.steps(model, runs, found, module.samples_of(model, None), None):
        made.append(weakref.ref(step.out))
        del step
        alive.append(sum(r() is not None for r in made))
    assert len(made) == sum(len(x.nodes) for x in found) > 8
    assert max(alive) <= 3  # what was made, and what is added later


@pytest.mark.parametrize(("layer", "pe", "simd"), [("first", 2, 3), ("first", 4, 9), ("first", 1, 27), ("last", 5, 4)])
def test_weight_memories_of_finn(tmp_path, layer, pe, simd):
    """As FINN makes memblock.dat: its steps with QONNX's function, and its packing with the first element on top."""
    basic = pytest.importorskip("qonnx.util.basic")
    at = {"order": "finn", "layer": [layer], "formats": ["npy", "words", "hex"], "fold": (pe, simd)}
    made = intsim.vectors(networks.mixed(), out=tmp_path / "v", **at)
    entries = {t["role"]: t for t in made.manifest["layers"][0]["tensors"]}
    matrix = np.load(tmp_path / "v" / entries["weight"]["files"]["npy"])
    memory, bits = entries["weight_memory"], int(entries["weight_memory"]["type"][1:])
    tensor = basic.interleave_matrix_outer_dim_from_partitions(matrix.T, pe).reshape(1, pe, -1, simd)
    tensor = np.flip(tensor, axis=-1)  # get_hw_compatible_weight_tensor
    tensor = np.flip(np.transpose(tensor, (0, 2, 1, 3)), axis=-2)  # make_weight_file
    stream = tensor.reshape(-1, pe * simd).astype(np.int64)
    wanted = [int("".join(f"{v % (1 << bits):0{bits}b}" for v in row), 2) for row in stream.tolist()]
    lines = (tmp_path / "v" / memory["files"]["words"]).read_text().split("\n")[1:-1]
    assert [int(line, 16) for line in lines] == wanted
    assert {len(line) for line in lines} == {-(-pe * simd * bits // 4)}
    assert len(set(wanted)) > 1
    assert memory["shape"] == [matrix.size // (pe * simd), pe * simd]
    for kind in ("npy", "hex", "words"):
        path = tmp_path / "v" / memory["files"][kind]
        if kind != "words":
            assert intsim.compare(tmp_path / "v", path, layer=layer, tensor="weight_memory").same


def test_weight_memories_are_read_back_from_words_alone(tmp_path):
    at = {"order": "finn", "layer": ["first"], "fold": (4, 3)}
    intsim.vectors(networks.mixed(), out=tmp_path / "v", formats=["words"], bus_bits=24, **at)
    made = intsim.vectors(networks.mixed(), out=tmp_path / "p", formats=["npy"], **at)
    entry = next(t for t in made.manifest["layers"][0]["tensors"] if t["role"] == "weight_memory")
    path = tmp_path / "p" / entry["files"]["npy"]
    assert intsim.compare(tmp_path / "v", path, layer="first", tensor="weight_memory").same


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fold": (2, 3)}, "PE = 2, SIMD = 3: PE \\* SIMD is 1..2048, with order finn alone"),
        ({"fold": (0, 3), "order": "finn"}, "PE = 0, SIMD = 3"),
        ({"fold": (64, 64), "order": "finn"}, "PE = 64, SIMD = 64"),
        ({"fold": (3, 1), "order": "finn", "layer": ["first"]}, "layer first: PE = 3 must divide MH = 4"),
        ({"fold": (1, 1), "order": "finn", "layer": ["each"]}, "layer each: not a matrix of an MVAU"),
    ],
)
def test_folds_that_are_refused(tmp_path, options, said):
    with pytest.raises(IntsimError, match=said):
        intsim.vectors(networks.mixed(), out=tmp_path / "v", **options)
    assert not (tmp_path / "v").exists()


def test_what_padding_is_paid_back_leaves_the_register(tmp_path):
    """A 6-bit register of raw codes, whose window of three is padding but for one: twice -9 x 8 is paid back."""
    net = Net(opset=17)
    x = net.qdq(net.input(1, 1, 1), 1.0, np.uint8(9), clip=(np.uint8(9), np.uint8(15)))
    w = net.node("DequantizeLinear", net.const(np.int8([[[8, 1, 8]]])), net.const(np.float32(1)), net.const(np.int8(0)))
    model = net.model(net.qdq(net.node("Conv", x, w, pads=[1, 1]), 4.0, np.uint8(40)))
    text = 'title = "t"\nsource = ["t"]\noperands = { activation = "u8", weight = "s8" }\n[accumulate]\n'
    text += 'stages = [{ sum = "rest", bits = 6, overflow = "wrap" }]\nbias = "after"\npadding = "skipped"\n'
    target = Target.from_toml(text + '[requantize]\nscheme = "exact"\n')
    intsim.vectors(model, target, np.zeros((1, 1, 1), np.float32), out=tmp_path / "v", formats=["npy"])
    sums = np.load(next((tmp_path / "v").rglob("accumulator.npy")))
    assert sums.reshape(-1).tolist() == [-16 + 9 * 16]
