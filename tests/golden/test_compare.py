"""Dumps against vectors: every form of one, a changed integer found at its place, and what is refused."""

import json
import re

import numpy as np
import pytest

import intsim
from intsim.errors import IntsimError
from intsim.golden.grammar import ALLOWED, Bus, Map, Vcd
from intsim.report.vectors import after_comparison

from . import networks


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """A folder of vectors of one sample, and its stored tensors of the layer `first`."""
    folder = tmp_path_factory.mktemp("golden") / "v"
    made = intsim.vectors(networks.mixed(signed=True), "exact", out=folder, formats=["npy"])
    entry = next(x for x in made.manifest["layers"] if x["name"] == "first")
    return folder, {t["role"]: np.load(folder / t["files"]["npy"]) for t in entry["tensors"]}


def told(tmp_path, text):
    (tmp_path / "map.toml").write_text(text)
    return tmp_path / "map.toml"


def s8(values):
    return [int(v) & 0xFF for v in np.ravel(values)]


def forms(tmp_path, codes):
    """Every form of a dump of s8 codes (1, 4, 6, 5): file, and the map that it needs."""
    flat = codes.reshape(-1)
    np.save(tmp_path / "a.npy", codes)
    np.save(tmp_path / "flat.npy", flat.astype(np.float64))
    np.savez(tmp_path / "a.npz", first=codes)
    np.savez(tmp_path / "b.npz", **{"first.output": codes})
    (tmp_path / "a.hex").write_text("// a dump\n" + "\n".join(f"{v:02x}" for v in s8(codes)))
    (tmp_path / "wide.hex").write_text("@0\n" + " ".join(f"{int(v) & 0xFFFF:04X}" for v in flat) + " /* end\n */")
    (tmp_path / "a.csv").write_text("\n".join(",".join(map(str, row)) for row in codes.reshape(-1, 5).tolist()))
    (tmp_path / "a.txt").write_text("# codes\n" + " ".join(map(str, flat.tolist())))
    (tmp_path / "a.bin").write_bytes(flat.astype(np.int8).tobytes())
    (tmp_path / "wide.raw").write_bytes(flat.astype("<i4").tobytes())
    low = [flat[i : i + 4] for i in range(0, 120, 4)]
    (tmp_path / "low.mem").write_text("\n".join("".join(f"{v:02x}" for v in s8(w)[::-1]) for w in low))
    (tmp_path / "high.mem").write_text("\n".join("".join(f"{v:02x}" for v in s8(w)) for w in low))
    rows = [flat[i : i + 5] for i in range(0, 120, 5)]  # three a word, a row of five in two words
    words = [w for r in rows for w in (r[:3], r[3:])]
    (tmp_path / "rows.bin").write_bytes(b"".join(bytes(s8(w)).ljust(3, b"\xa5")[:3] for w in words))
    yield from (("a.npy", ""), ("flat.npy", ""), ("a.npz", ""), ("b.npz", ""), ("a.hex", ""), ("wide.hex", ""))
    yield from (("a.csv", ""), ("a.txt", ""), ("a.bin", ""), ("wide.raw", 'type = "s32"'))
    yield "low.mem", "[bus]\nbits = 32"
    yield "high.mem", '[bus]\nbits = 32\nfirst = "high"'
    yield "rows.bin", "[bus]\nbits = 24\nelements = 3\nrow = 5"


def test_every_form(tmp_path, golden):
    """The same, and with one integer changed that is found at its place."""
    folder, tensors = golden
    at = (0, 2, 3, 4)
    wrong = tensors["output"].copy()
    wrong[at] ^= 1
    for name, text in list(forms(tmp_path, tensors["output"])):
        path = told(tmp_path, text) if text else None
        found = intsim.compare(folder, tmp_path / name, layer="first", map=path)
        assert [(t.layer, t.tensor, t.elements, t.mismatches) for t in found.tensors] == [("first", "output", 120, 0)]
        assert found.same, name
    for name, text in list(forms(tmp_path, wrong)):
        path = told(tmp_path, text) if text else None
        found = intsim.compare(folder, tmp_path / name, layer="first", map=path)
        (tensor,) = found.tensors
        assert not found.same, name
        assert tensor.mismatches == 1
        first = tensor.first
        assert (first.position, first.channel, first.sample) == (at, 2, 0), name
        assert first.element == np.ravel_multi_index(at, wrong.shape)
        assert (first.expected, first.got) == (tensors["output"][at], wrong[at])
        assert first.before == tensors["accumulator"][at]


def test_orders_and_folds(tmp_path, golden):
    folder, tensors = golden
    codes, at = tensors["output"], (0, 3, 1, 2)
    wrong = codes.copy()
    wrong[at] ^= 4
    last = wrong.transpose(0, 2, 3, 1)
    np.save(tmp_path / "last.npy", last)
    for order in ("NHWC", "finn", "hls4ml"):
        (tensor,) = intsim.compare(folder, tmp_path / "last.npy", layer="first", order=order).tensors
        assert (tensor.mismatches, tensor.first.position) == (1, at)
        assert tensor.first.element == np.ravel_multi_index((0, 1, 2, 3), last.shape)
    # three channels together, the second group filled up with anything: N C/3 H W 3
    blocked = np.full((1, 2, 3, 6, 5), 77, np.int64)
    blocked.reshape(1, 6, 6, 5)[:, :4] = wrong
    np.save(tmp_path / "fold.npy", blocked.transpose(0, 1, 3, 4, 2).reshape(-1))
    (tensor,) = intsim.compare(folder, tmp_path / "fold.npy", layer="first", map=told(tmp_path, "fold = 3")).tensors
    assert (tensor.elements, tensor.mismatches, tensor.first.position) == (120, 1, at)
    # the same with channels last: N H W C/3 3
    np.save(tmp_path / "fold.npy", blocked.transpose(0, 3, 4, 1, 2).reshape(-1))
    path = told(tmp_path, 'fold = 3\norder = "NHWC"')
    (tensor,) = intsim.compare(folder, tmp_path / "fold.npy", layer="first", map=path).tensors
    assert (tensor.mismatches, tensor.first.position) == (1, at)


def test_the_wrong_order_is_recognized(tmp_path, golden):
    folder, tensors = golden
    np.save(tmp_path / "flat.npy", tensors["output"].transpose(0, 2, 3, 1).reshape(-1))
    (tensor,) = intsim.compare(folder, tmp_path / "flat.npy", layer="first").tensors
    assert tensor.mismatches > 20
    assert tensor.also == "NHWC"


def test_digits_of_a_narrower_register_are_recognized(tmp_path, golden):
    """As $fdisplay("%h") writes a register that has fewer bits than the golden type: without its sign."""
    folder, tensors = golden
    sums = tensors["accumulator"]
    bits = 1 + int(max(sums.max(), -sums.min())).bit_length()
    dump = tmp_path / "d.hex"
    digits = [f"{v % (1 << bits):x}\n" for v in sums.reshape(-1).tolist()]
    dump.write_text("".join(digits))
    found = intsim.compare(folder, dump, layer="first", tensor="accumulator")
    assert found.tensors[0].mismatches == (sums < 0).sum() > 0
    assert found.tensors[0].narrower == f"s{bits}"
    step = after_comparison(found, ["intsim", "compare", "v", "d.hex"])
    assert f'type = "s{bits}"' in step.text
    assert step.command == "intsim compare v d.hex --map dump.toml"
    path = told(tmp_path, f'type = "s{bits}"')
    assert intsim.compare(folder, dump, layer="first", tensor="accumulator", map=path).same
    digits[5] = f"{(int(digits[5], 16) ^ 1):x}\n"
    dump.write_text("".join(digits))
    (tensor,) = intsim.compare(folder, dump, layer="first", tensor="accumulator").tensors
    assert tensor.narrower is None


def test_the_wrong_packing_is_seen(tmp_path, golden):
    folder, tensors = golden
    list(forms(tmp_path, tensors["output"]))
    path = told(tmp_path, "[bus]\nbits = 32")
    assert not intsim.compare(folder, tmp_path / "high.mem", layer="first", map=path).same


def test_other_tensors_and_many(tmp_path, golden):
    """Accumulators, weights in another order, an .npz of layers, a map with a table a file."""
    folder, tensors = golden
    np.save(tmp_path / "acc.npy", tensors["accumulator"])
    assert intsim.compare(folder, tmp_path / "acc.npy", layer="first", tensor="accumulator").same
    np.save(tmp_path / "w.npy", tensors["weight"].transpose(2, 3, 1, 0))
    assert intsim.compare(folder, tmp_path / "w.npy", layer="first", tensor="weight", order="hls4ml").same
    manifest = json.loads((folder / "manifest.json").read_text())
    arrays = {}
    for layer in manifest["layers"]:
        entry = next(t for t in layer["tensors"] if t["role"] == "output")
        arrays[layer["name"]] = np.load(folder / entry["files"]["npy"])
    arrays["each"] = arrays["each"] + (np.arange(120) == 77).reshape(1, 4, 6, 5)
    np.savez(tmp_path / "all.npz", **arrays)
    found = intsim.compare(folder, tmp_path / "all.npz")
    assert [t.layer for t in found.tensors] == [x["name"] for x in manifest["layers"]]
    assert found.wrong.layer == "each"
    assert found.wrong.mismatches == 1
    text = '[[dump]]\nlayer = "last"\nfile = "last.npy"\n[[dump]]\nlayer = "first"\ntensor = "accumulator"\n'
    np.save(tmp_path / "last.npy", arrays["last"])
    found = intsim.compare(folder, tmp_path / "acc.npy", map=told(tmp_path, text))
    assert [(t.layer, t.tensor, t.mismatches) for t in found.tensors] == [
        ("first", "accumulator", 0),
        ("last", "output", 0),
    ]


def test_samples_and_registers(tmp_path):
    made = intsim.vectors(
        networks.mixed(),
        "x86-avx2",
        samples=2,
        out=tmp_path / "v",
        partial=True,
        formats=["hex", "words"],
        order="NHWC",
    )
    entry = {t["role"]: t for t in made.manifest["layers"][0]["tensors"]}
    lines = (tmp_path / "v" / entry["output"]["files"]["hex"]).read_text().split("\n")
    assert entry["output"]["shape"] == [2, 1, 6, 5, 4]
    lines[1 + 120 + 4 * 3 + 2] = f"{int(lines[1 + 120 + 4 * 3 + 2], 16) ^ 0x80:02x}"
    (tmp_path / "d.hex").write_text("\n".join(lines))
    (tensor,) = intsim.compare(tmp_path / "v", tmp_path / "d.hex", layer="first").tensors
    first = tensor.first
    assert (tensor.elements, tensor.mismatches, first.sample) == (240, 1, 1)
    assert (first.channel, first.position) == (2, (0, 2, 0, 3))
    told_ = intsim.trace_output(networks.mixed(), "first", (2, 0, 3), "x86-avx2", seed=1)
    assert first.before == told_.total
    last = {a.stage: a.value for a in told_.additions}
    assert first.registers == [[last[1]], [last[2]], [last[3]]]
    (tmp_path / "d.hex").write_text("\n".join(lines[:121]))
    with pytest.raises(IntsimError, match=r"120 elements, 240 expected.*this is one sample"):
        intsim.compare(tmp_path / "v", tmp_path / "d.hex", layer="first")


@pytest.mark.parametrize("order", ["NCHW", "finn"])
@pytest.mark.parametrize("bus", [5, 24, 64])
def test_vectors_that_hold_words_alone(tmp_path, order, bus):
    """Read back from packed words, of several samples, every layer."""
    at = {"samples": 2, "order": order}
    made = intsim.vectors(networks.mixed(), out=tmp_path / "v", formats=["words"], bus_bits=bus, **at)
    plain = intsim.vectors(networks.mixed(), out=tmp_path / "p", formats=["npy"], **at)
    arrays = {
        f"{x['name']}.{t['role']}": np.load(tmp_path / "p" / t["files"]["npy"])
        for x in plain.manifest["layers"]
        for t in x["tensors"]
        if t["type"][0] != "f"
    }
    np.savez(tmp_path / "d.npz", **arrays)
    found = intsim.compare(tmp_path / "v", tmp_path / "d.npz")
    assert found.same
    assert len(found.tensors) == sum(len(x["tensors"]) for x in made.manifest["layers"]) > 20


def test_lanes(tmp_path):
    """Registers that take turns are told one by one."""
    made = intsim.vectors(
        networks.mixed(signed=True), "arm-neon-int8", out=tmp_path / "v", partial=True, formats=["npy"]
    )
    entry = {t["role"]: t for t in made.manifest["layers"][0]["tensors"]}
    assert entry["partial_1"]["shape"] == [1, 4, 6, 5, 8]
    codes = np.load(tmp_path / "v" / entry["output"]["files"]["npy"])
    codes[0, 1, 2, 3] ^= 1
    np.save(tmp_path / "d.npy", codes)
    (tensor,) = intsim.compare(tmp_path / "v", tmp_path / "d.npy", layer="first").tensors
    assert [len(r) for r in tensor.first.registers] == [8, 1, 4, 1]
    np.save(tmp_path / "p.npy", np.load(tmp_path / "v" / entry["partial_1"]["files"]["npy"]).transpose(0, 2, 3, 1, 4))
    assert intsim.compare(tmp_path / "v", tmp_path / "p.npy", layer="first", tensor="partial_1", order="NHWC").same


@pytest.mark.parametrize(
    ("name", "content", "text", "said"),
    [
        ("a.hex", "01 02", "", "2 elements, 120 expected: first's output has shape 1x4x6x5; are these words of 60"),
        ("a.hex", " ".join(["01"] * 119), "", "119 elements, 120 expected.*ends early"),
        ("a.hex", " ".join(["01"] * 121), "", "121 elements, 120 expected.*goes on"),
        ("a.hex", " ".join(["01"] * 240), "", "2 times as many"),
        ("a.hex", "01\nzz\n", "", "line 2: zz holds unknown digits"),
        ("a.hex", "01\n0x\n", "", "line 2: 0x holds unknown digits"),
        ("a.hex", "01\nhello\n", "", "line 2: 'hello' is no hexadecimal number"),
        ("a.hex", "01\n@7 02\n", "", "line 2: address @7 after 1 numbers"),
        ("a.hex", "01\n1ff\n", "", "line 2: 1ff doesn't fit s8"),
        ("a.hex", "0100000000\n", "[bus]\nbits = 32", "line 1: 0100000000 doesn't fit 32 bits"),
        ("a.hex", b"\xff\xfe\x00", "", "is no text"),
        ("a.csv", "1,2,x", "", "line 1: 'x' is no decimal integer"),
        ("a.csv", "1,2.5", "", "line 1: '2.5' is no decimal integer"),
        ("a.csv", "1," + "9" * 30, "", "beyond 64 bits"),
        ("a.csv", "9" * 5000, "", "beyond 64 bits"),
        ("a.csv", "1_0," * 120, "", "line 1: '1_0' is no decimal integer"),
        ("a.csv", "\u0661," * 120, "", "is no decimal integer"),
        ("a.hex", "", "", "0 elements, 120 expected"),
        ("a.npy", np.array(3), "", "1 elements, 120 expected"),
        ("a.npz", {}, "", "holds no array"),
        ("a.bin", b"\x00" * 7, 'type = "s32"', "7 bytes are no whole number of 4-byte elements"),
        ("a.bin", b"\x00" * 7, "[bus]\nbits = 24", "no whole number of 3-byte words"),
        ("a.bin", b"", "", "0 elements, 120 expected"),
        ("a.bin", b"\x00" * 120, "[bus]\nbits = 16\nelements = 3", "3 elements of s8 don't fit a word of 16 bits"),
        ("a.bin", b"\x00" * 120, '[bus]\nbits = 4\nfirst = "high"', "takes several words of 4 bits; leave out first"),
        ("a.npy", b"\x93NUMPY", "", "not a readable .npy"),
        ("a.xyz", "", "", "no format has the ending '.xyz'"),
        ("a.vcd", "", "", "needs the table"),
        ("a.npy", np.full((1, 4, 6, 5), np.nan), "", "element 0 is nan, no integer"),
        ("a.npy", np.full((1, 4, 6, 5), 0.5), "", "element 0 is 0.5, no integer"),
        ("a.npy", np.full((1, 4, 6, 5), "x"), "", "no numbers"),
        ("a.npy", np.zeros((1, 6, 5, 4)), "", "shape 1x6x5x4, expected 1x4x6x5 in order NCHW"),
        (
            "a.npz",
            {"some": np.zeros(120), "other": np.zeros(120)},
            "",
            "no array is called 'first'; its arrays are some",
        ),
        ("missing.hex", None, "", "No such file"),
    ],
)
def test_dumps_that_are_none(tmp_path, golden, name, content, text, said):
    path = tmp_path / name
    if isinstance(content, dict):
        np.savez(path, **content)
    elif isinstance(content, np.ndarray):
        np.save(path, content)
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(IntsimError, match=said) as error:
        intsim.compare(golden[0], path, layer="first", map=told(tmp_path, text) if text else None)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layers = 1", "unknown key layers; allowed: layer, tensor, file, format, order"),
        ("layer = 1", "layer is 1; allowed: the name of a layer"),
        ('type = "s65"', 'type is \'s65\'; allowed: "s" or "u" and 1..64 bits'),
        ('order = "CHWN"', 'order is .CHWN.; allowed: "NCHW", "NHWC", "finn", "hls4ml"'),
        ('format = "tiff"', 'format is .tiff.; allowed: "npy", "hex"'),
        ("fold = 0", "fold is 0; allowed: 1..65536 channels"),
        ("bus = 32", "bus is 32; allowed: a table"),
        ('[bus]\nfirst = "low"', "bus.bits is missing; allowed: 1..65536"),
        ("[bus]\nbits = 32\nwords = 2", "unknown key bus.words; allowed: bits, elements, first, row"),
        ("[bus]\nbits = true", "bus.bits is True; allowed"),
        ('[vcd]\nclock = "c"', "vcd.data is missing; allowed: the name of a signal, or a list"),
        ('[vcd]\nclock = "c"\ndata = []', "vcd.data is .*allowed"),
        ('[[dump]]\nlayer = "a"\nx = 1', r"unknown key dump\[0\].x; allowed: layer"),
        ("dump = 3", "dump is 3; allowed: a list"),
        ("a = ", "not TOML"),
    ],
)
def test_maps_that_are_none(tmp_path, golden, text, said):
    with pytest.raises(IntsimError, match=said) as error:
        intsim.compare(golden[0], tmp_path / "a.hex", map=told(tmp_path, text))
    assert "\n" not in str(error.value)


def test_every_key_of_a_map_says_what_it_takes():
    assert {k for t in (Map, Bus, Vcd) for k in t.model_fields} == set(ALLOWED)


def test_vectors_that_are_none(tmp_path, golden):
    (tmp_path / "d.npy").write_bytes(b"")
    for content, said in ((None, "No such file"), ("{", "not JSON"), ('{"format": "x"}', "is not intsim-vectors-1")):
        if content is not None:
            (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(IntsimError, match=said):
            intsim.compare(tmp_path, tmp_path / "d.npy")
    made = intsim.vectors(networks.packed(), out=tmp_path / "c", formats=["c", "npy"])
    np.save(tmp_path / "d.npy", np.zeros((1, 3, 3, 3), np.int64))
    path = tmp_path / "c" / made.manifest["layers"][0]["tensors"][-1]["files"]["npy"]
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(IntsimError, match=r"output.npy: was changed after intsim wrote it"):
        intsim.compare(tmp_path / "c", tmp_path / "d.npy")
    path.unlink()
    with pytest.raises(IntsimError, match="can't be read"):
        intsim.compare(tmp_path / "c", tmp_path / "d.npy")
    intsim.vectors(networks.packed(), out=tmp_path / "c", formats=["c"])
    with pytest.raises(IntsimError, match="C headers only"):
        intsim.compare(tmp_path / "c", tmp_path / "d.npy")
    with pytest.raises(IntsimError, match="say with --layer whose integers it holds"):
        intsim.compare(golden[0], tmp_path / "d.npy")
    with pytest.raises(IntsimError, match="no layer 'x'; its layers are first"):
        intsim.compare(golden[0], tmp_path / "d.npy", layer="x")
    with pytest.raises(IntsimError, match=r"has no tensor 'partial_1'; it has operand.*--partial"):
        intsim.compare(golden[0], tmp_path / "d.npy", layer="first", tensor="partial_1")
    with pytest.raises(IntsimError, match="order 'x': allowed"):
        intsim.compare(golden[0], tmp_path / "d.npy", layer="first", order="x")


def vcd(codes, per=1, bits=8, unknown=False):
    """A stream of `per` codes a beat: registers change at the edge, as in a simulator; each third beat is empty."""
    mask, beats = (1 << bits) - 1, []
    for k in range(0, len(codes), per):
        word = sum((int(v) & mask) << (i * bits) for i, v in enumerate(codes[k : k + per]))
        beats += [f"b{word:b}", *([None] if len(beats) % 3 == 1 else [])]
    lines = [
        *("$timescale 1 ns $end", "$scope module tb $end", "$var wire 1 ! clk $end", "$scope module dut $end"),
        *('$var reg 1 " valid $end', f"$var reg {per * bits} # data [{per * bits - 1}:0] $end"),
        *("$upscope $end", "$upscope $end", "$enddefinitions $end", "#0", "0!", 'x"', "bx #"),
    ]
    for i, word in enumerate([*beats, None, None]):
        data = "bx" if word is None else "bxx1" if unknown else word
        lines += [f"#{10 * i + 5}", "1!", f'{int(word is not None)}"', f"{data} #", f"#{10 * i + 10}", "0!"]
    return "\n".join(lines) + "\n"


def test_signals_of_a_vcd(tmp_path, golden):
    pytest.importorskip("vcd")
    folder, tensors = golden
    codes = tensors["output"].reshape(-1).tolist()
    text = '[vcd]\nclock = "tb.clk"\ndata = "tb.dut.data"\nvalid = "tb.dut.valid"\n'
    (tmp_path / "a.vcd").write_text(vcd(codes))
    assert intsim.compare(folder, tmp_path / "a.vcd", layer="first", map=told(tmp_path, text)).same
    codes[37] ^= 2
    (tmp_path / "a.vcd").write_text(vcd(codes, per=4))
    found = intsim.compare(folder, tmp_path / "a.vcd", layer="first", map=told(tmp_path, "[bus]\nbits = 32\n" + text))
    assert [t.first.element for t in found.tensors] == [37]
    for other, said in (
        (text.replace("dut.data", "dut.dat"), "no signal tb.dut.dat; it has tb.clk, tb.dut.valid, tb.dut.data"),
        (text.replace('valid = "tb.dut.valid"', ""), "signal tb.dut.data has no value yet|is x"),
        (text + 'edge = "both"', 'vcd.edge is \'both\'; allowed: "rising", "falling"'),
    ):
        with pytest.raises(IntsimError, match=said):
            intsim.compare(folder, tmp_path / "a.vcd", layer="first", map=told(tmp_path, "[bus]\nbits = 32\n" + other))
    (tmp_path / "a.vcd").write_text(vcd(codes, unknown=True))
    with pytest.raises(IntsimError, match=r"^[^:]*a\.vcd: signal tb.dut.data is xx1 at time \d+, where it is sampled"):
        intsim.compare(folder, tmp_path / "a.vcd", layer="first", map=told(tmp_path, text))
    (tmp_path / "a.vcd").write_text("hello $end")
    with pytest.raises(IntsimError, match=r"not a value change dump|no signal"):
        intsim.compare(folder, tmp_path / "a.vcd", layer="first", map=told(tmp_path, text))


def test_a_vcd_without_its_reader(tmp_path, golden, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vcd", None)
    monkeypatch.setitem(__import__("sys").modules, "vcd.reader", None)
    (tmp_path / "a.vcd").write_text("")
    path = told(tmp_path, '[vcd]\nclock = "c"\ndata = "d"\n')
    with pytest.raises(IntsimError, match=re.escape('needs pyvcd; pip install "intsim[rtl]"')):
        intsim.compare(golden[0], tmp_path / "a.vcd", layer="first", map=path)
