"""The next step of every verb: its command is run, and does what the words say."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import Net
from test_cli import network as qdq

from intsim import cli
from intsim.cli.options import OnSamples

TARGET = """
title = "by hand"
source = ["by hand"]
{operands}
[accumulate]
stages = [{stages}]
[requantize]
scheme = "exact"
"""


def network(signed: bool = False, scale: float = 256, depth: int = 2) -> onnx.ModelProto:
    """Two channels of 8-bit codes: sums up to 255 x 253, and 255 x 3; a layer that only hands on behind it."""
    net = Net()
    x = net.quant(net.input(1, depth, 4, 4), 1, 0, 8, signed=int(signed))
    w = np.concatenate([np.float32([[1, 2], [127, 126]]), np.full((2, depth - 2), 127, np.float32)], axis=1)
    net.node("Conv", x, net.quant(w.reshape(2, depth, 1, 1), 1, 0, 8, narrow=1), kernel_shape=[1, 1])
    net.nodes[-1].name = "conv"
    y = net.quant(net.nodes[-1].output[0], scale, 0, 8)
    net.node("Conv", y, net.quant(np.float32(np.eye(2)).reshape(2, 2, 1, 1), 1, 0, 2), kernel_shape=[1, 1])
    net.nodes[-1].name = "behind"
    return net.model(net.quant(net.nodes[-1].output[0], 1, 0, 8))


@pytest.fixture
def intsim_(tmp_path, monkeypatch, capfd):
    """Run the command line in a folder with some networks: exit code, JSON."""
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "m.onnx")
    onnx.save(network(signed=True, depth=8), "a model.onnx")
    onnx.save(network(scale=300.7), "odd.onnx")
    onnx.save(network(signed=True, scale=300.7), "odd-s8.onnx")
    onnx.save(qdq(True), "qdq.onnx")
    np.save("x.npy", np.full((1, 2, 4, 4), 255, np.float32))

    def run(*args: object) -> tuple[int, dict]:
        monkeypatch.setattr(sys, "argv", ["intsim", *map(str, args)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capfd.readouterr()
        assert "internal" not in err
        return int(left.value.code or 0), json.loads(out) if "--json" in args else {}

    return run


def test_bounds_takes_no_samples(intsim_):
    asked = OnSamples("m.onnx", inputs="x.npy")
    assert asked.command("bounds", data=True) == "intsim bounds m.onnx -t exact"
    assert asked.command("run", data=True) == "intsim run m.onnx -t exact --inputs x.npy"
    assert asked.command("run") == "intsim run m.onnx -t exact"


def test_the_layer_that_is_named_is_the_one_that_needs_the_bits(intsim_):
    shutil.copy(Path(cli.__file__).parents[2] / "examples" / "digits.onnx", "digits.onnx")
    code, found = intsim_("bounds", "digits.onnx", "-t", "wrap-12", "--json")
    step = found["next_step"]
    assert (code, step["layer"], step["command"]) == (1, "/classify/Gemm", "intsim bounds digits.onnx -t wrap-23")
    code, found = intsim_("bounds", "digits.onnx", "-t", "fbgemm-acc16", "--json")
    assert (code, found["next_step"]["command"]) == (1, "intsim targets")


def words(step: dict) -> list[str]:
    name, *rest = shlex.split(step["command"])
    assert name == "intsim"
    return [*rest, "--json"]


NOTHING_TO_DO = [
    ["run", "m.onnx"],
    ["verify", "m.onnx", "--no-references"],
    ["bounds", "m.onnx", "-t", "cpu-int32"],
    ["certify", "m.onnx"],
    ["telemetry", "m.onnx", "-t", "wrap-40"],
    ["sweep", "m.onnx", "-a", "12:17", "-m", "32", "-o", "s"],
]


@pytest.mark.parametrize("call", NOTHING_TO_DO, ids=lambda c: c[0])
def test_nothing_to_do(intsim_, call):
    code, found = intsim_(*call, "--json")
    assert (code, found["next_step"]) == (0, None)


@pytest.mark.parametrize(
    "call",
    [["run", "-i", "x.npy"], ["verify", "-i", "x.npy", "--no-references"], ["bounds"], ["certify"],
     ["telemetry", "-i", "x.npy"]],
    ids=lambda c: c[0],
)  # fmt: skip
def test_a_family_has_a_wider_member(intsim_, call):
    verb, *rest = call
    code, found = intsim_(verb, "m.onnx", "-t", "wrap-12", *rest, "--json")
    step = found["next_step"]
    assert code == 1
    assert step["layer"] == "conv"
    assert step["text"].startswith("widen stage 1 from 12 to 17 bits for conv")
    assert words(step)[:4] == ["bounds", "m.onnx", "-t", "wrap-17"]
    assert intsim_(*words(step))[0] == 0
    assert intsim_("bounds", "m.onnx", "-t", "wrap-16")[0] == 1
    assert intsim_(verb, "m.onnx", "-t", "wrap-17", *rest)[0] == 0


def test_a_file_of_ones_own(intsim_):
    """Two lanes of 10 bits and a rest of 14: both are named, and what is said suffices."""
    lanes = '{ sum = 1, lanes = 2, bits = %d, overflow = "saturate" }, { sum = "rest", bits = %d, overflow = "wrap" }'
    Path("own.toml").write_text(TARGET.format(operands="", stages=lanes % (10, 14)))
    code, found = intsim_("bounds", "m.onnx", "-t", "own.toml", "--json")
    step = found["next_step"]
    assert code == 1
    assert (
        "widen the 2 lanes of stage 1 from 10 to 16 bits and widen stage 2 from 14 to 17 bits for conv" in step["text"]
    )
    assert "change own.toml" in step["text"]
    Path("own.toml").write_text(TARGET.format(operands="", stages=lanes % (16, 17)))
    assert intsim_(*words(step))[0] == 0
    for less in ((15, 17), (16, 16)):
        Path("own.toml").write_text(TARGET.format(operands="", stages=lanes % less))
        assert intsim_(*words(step))[0] == 1


def test_a_numbered_file_of_ones_own(intsim_):
    text = TARGET.format(operands="[family]\nN = [4, 20]", stages='{ sum = "rest", bits = $N, overflow = "saturate" }')
    Path("own-N.toml").write_text(text)
    code, found = intsim_("bounds", "m.onnx", "-t", "./own-9.toml", "--json")
    assert (code, words(found["next_step"])[:4]) == (1, ["bounds", "m.onnx", "-t", "./own-17.toml"])
    assert intsim_(*words(found["next_step"]))[0] == 0


@pytest.mark.parametrize("verb", ["bounds", "certify"])
def test_more_arrives_behind_a_wider_register(intsim_, verb):
    """What a register clips to 8 bits its next layer doesn't see: only where none clips does the last need 20."""
    net = Net()
    y = net.quant(net.input(1, 16), 1, 0, 8, signed=0)
    for w in (1, 3, 9, 27, 81):
        weights = net.quant(np.full((16, 16), w, np.float32), 1, 0, 8)
        y = net.quant(net.node("MatMul", y, weights), 16 * w, 0, 8, signed=0)
    onnx.save(net.model(y), "deep.onnx")
    code, found = intsim_(verb, "deep.onnx", "-t", "saturate-8", "--json")
    assert (code, words(found["next_step"])[:4]) == (1, ["bounds", "deep.onnx", "-t", "saturate-20"])
    assert intsim_(*words(found["next_step"]))[0] == 0
    assert intsim_("bounds", "deep.onnx", "-t", "saturate-19")[0] == 1


def test_a_machine_cannot_be_widened(intsim_):
    """A sweep shows what it would be like, and proves it."""
    code, found = intsim_("run", "m.onnx", "-i", "x.npy", "-t", "x86-avx2", "--json")
    step = found["next_step"]
    assert (code, step["layer"]) == (1, "conv")
    assert "x86-avx2 has no such register" in step["text"]
    code, swept = intsim_(*words(step))
    assert (code, [r["proven"] for r in swept["rows"]]) == (0, [True])
    assert (swept["stage"], swept["accumulator_widths"], swept["seed"]) == (1, [17], None)


def test_packed_fields_need_a_correction(intsim_):
    """An uncorrected multiplier is read wrong after negative sums; there is a built-in one that is corrected."""
    code, found = intsim_("bounds", "a model.onnx", "-t", "dsp48e2-int8-raw", "--json")
    step = found["next_step"]
    assert code == 1
    assert 'correction "borrow"' in step["text"]
    assert words(step)[:4] == ["bounds", "a model.onnx", "-t", "dsp48e2-int8"]
    assert intsim_(*words(step))[0] == 0


def test_packed_fields_are_not_swept(intsim_):
    """Stage 1 of a packed multiplier has the width of its fields: its correction is what a sweep of stage 2 lacks."""
    sweep = ["sweep", "a model.onnx", "-t", "dsp48e2-int8-raw", "--stage", "2", "-a", "16", "-o", "p", "--json"]
    code, found = intsim_(*sweep)
    assert code == 0
    assert words(found["next_step"])[:4] == ["bounds", "a model.onnx", "-t", "dsp48e2-int8"]
    assert intsim_(*words(found["next_step"]))[0] == 0


def test_packed_fields_that_hold_too_much(intsim_):
    """Groups of 8 products of 127 x 128 don't fit 16 bits beside each other; it says of how many do."""
    packing = '[accumulate.packing]\nchannels = [0, 16]\nbits = 48\ncorrection = "borrow"\n[requantize]'
    stages = '{ sum = %d, bits = 16, overflow = "wrap" }, { sum = "rest", bits = 32, overflow = "wrap" }'
    text = TARGET.replace("[requantize]", packing)
    operands = '[operands]\nactivation = "s8"\nweight = "s8"'
    Path("own.toml").write_text(text.format(operands=operands, stages=stages % 8))
    code, found = intsim_("bounds", "a model.onnx", "-t", "own.toml", "--json")
    step = found["next_step"]
    assert code == 1
    most = int(re.match(r"add up (\d) products at a time in stage 1, not 8, for conv", step["text"])[1])
    for size, safe in ((most, 0), (most + 1, 1)):
        Path("own.toml").write_text(text.format(operands=operands, stages=stages % size))
        assert intsim_(*words(step))[0] == safe


def test_requantizers_that_differ(intsim_):
    """First the widths that would do are asked for, then named; with one of them codes are exact."""
    for verb, rest in (("verify", ["--no-references", "-n", "8"]), ("certify", [])):
        code, found = intsim_(verb, "odd.onnx", "-t", "fixed-point-4", *rest, "--json")
        step = found["next_step"]
        assert code == 1
        assert "(fixed-point) makes other codes than exact arithmetic" in step["text"]
        assert words(step)[:5] == ["certify", "odd.onnx", "-t", "fixed-point-4", "--multipliers"]
    code, found = intsim_(*words(step))
    step = found["next_step"]
    assert (code, words(step)[0]) == (1, "sweep")
    code, swept = intsim_(*words(step))
    assert code == 0
    assert all(x["mismatches"] == 0 for row in swept["rows"] for x in row["layers"])
    assert intsim_("certify", "odd.onnx", "-t", f"fixed-point-{swept['multiplier_widths'][0]}")[0] == 0


def test_the_requantizer_that_is_named_is_the_layers_own(intsim_):
    """A rule has another than the target's own."""
    text = TARGET.format(operands="", stages='{ sum = "rest", bits = 32, overflow = "wrap" }')
    rule = '[[when]]\nop = "conv"\nrequantize = { scheme = "fixed-point", multiplier_bits = 4, rounding = "floor" }\n'
    Path("own.toml").write_text(text + rule)
    code, found = intsim_("certify", "odd.onnx", "-t", "./own.toml", "--json")
    assert code == 1
    assert "(fixed-point) makes other codes than exact arithmetic" in found["next_step"]["text"]


@pytest.mark.parametrize(
    ("verb", "model", "target", "other", "blame"),
    [
        ("verify", "qdq.onnx", "onnxruntime-avx2", "onnxruntime-vnni", "conv needs 17 bits in stage 1 and has 16; "),
        ("certify", "odd-s8.onnx", "litert-reference", "cmsis-nn-single", "ai-edge-litert makes other codes of"),
    ],
)
def test_a_runtime_is_what_it_is(intsim_, verb, model, target, other, blame):
    """Nobody widens a library's registers or multipliers; the other runtimes are asked, on the same inputs."""
    status, found = intsim_(verb, model, "-t", target, "-i", "x.npy", "--json")
    assert status == 1
    step = found["next_step"]
    assert step["text"].startswith(blame)
    assert step["text"].endswith("see on which runtimes it is exact")
    assert step["command"] == f"intsim advise {model} --inputs x.npy"
    status, found = intsim_(*words(step), "-t", target, "-t", other)
    standings = [x["standing"] for x in found["runtimes"]]
    assert standings == [{"verify": "differs", "certify": "exact here"}[verb], "certified"]
    assert status == (verb == "verify")


def test_sweeps_that_end_too_early(intsim_):
    code, found = intsim_("sweep", "m.onnx", "-a", "8,12", "-o", "s", "-n", "2", "--seed", "3", "--json")
    step = found["next_step"]
    assert code == 0
    assert step["text"].startswith("no register can overflow from 17 bits on, which conv needs; 12 were the most swept")
    assert json.loads(Path("s/sweep.json").read_text())["next_step"] == step
    code, swept = intsim_(*words(step))
    assert (code, swept["next_step"], swept["samples"], swept["seed"]) == (0, None, 2, 3)
    assert {x["proven_from"] for x in swept["safe_from"] if x["name"] == "conv"} == {17}
    code, found = intsim_("sweep", "m.onnx", "-t", "x86-avx2", "--stage", "3", "-a", "40", "-o", "t", "--json")
    assert found["next_step"]["text"].startswith("at every width of stage 3, stage 1 of conv can overflow")
    code, swept = intsim_(*words(found["next_step"]))
    assert (code, swept["stage"], [r["proven"] for r in swept["rows"]]) == (0, 1, [True, True])


def test_a_sweep_of_one_register_where_two_are_narrow(intsim_):
    """No single one of them is enough, so none is advised to be swept."""
    stages = '{ sum = 1, bits = 12, overflow = "wrap" }, { sum = "rest", bits = 14, overflow = "wrap" }'
    Path("own.toml").write_text(TARGET.format(operands="", stages=stages))
    code, found = intsim_("sweep", "m.onnx", "-t", "own.toml", "--stage", "1", "-a", "40", "-o", "two", "--json")
    assert code == 0
    assert "stage 1 from 12 to 16 bits and widen stage 2 from 14 to 17 bits" in found["next_step"]["text"]


def test_advised_sweeps_have_folders_of_their_own(intsim_):
    """Of another model, other samples or another file of samples: none finds another one's rows."""
    for model in ("m.onnx", "odd.onnx"):
        for data in (["-n", "2", "--seed", "4"], ["-n", "3", "--seed", "4"], ["-i", "x.npy"]):
            code, found = intsim_("run", model, "-t", "x86-avx2", *data, "--json")
            assert code == 1
            assert intsim_(*words(found["next_step"]))[0] == 0


def test_what_opens_the_model_goes_along(intsim_):
    proto = onnx.load("m.onnx")
    for axis, name in ((2, "h"), (3, "w")):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(proto, "it's.onnx")
    code, found = intsim_("bounds", "it's.onnx", "-t", "wrap-9", "--shape", "x=1,2,5,3", "--json")
    assert code == 1
    assert words(found["next_step"])[4:6] == ["--shape", "x=1,2,5,3"]
    assert intsim_(*words(found["next_step"]))[0] == 0


def test_a_certificate_that_does_not_hold(intsim_):
    intsim_("certify", "m.onnx", "-t", "wrap-17", "-o", "c.json")
    Path("c.json").write_text(Path("c.json").read_text().replace('"depth": 2', '"depth": 3'))
    code, found = intsim_("certify", "--check", "c.json", "--json")
    assert (code, found["confirmed"]) == (1, False)
    assert words(found["next_step"])[:-1] == ["certify", "m.onnx", "-t", "wrap-17", "--out", "c.json"]
    assert intsim_(*words(found["next_step"]))[0] == 0
    code, found = intsim_("certify", "--check", "c.json", "--json")
    assert (code, found["next_step"]) == (0, None)


def test_advice_is_no_claim(intsim_):
    """What `certify --json` prints can be checked, `next_step` and all."""
    code, found = intsim_("certify", "m.onnx", "-t", "wrap-12", "--json")
    assert (code, found["next_step"]["layer"]) == (1, "conv")
    Path("c.json").write_text(json.dumps(found))
    intsim_("certify", "m.onnx", "-t", "wrap-12", "-o", "d.json")
    assert json.loads(Path("d.json").read_text()) == {k: v for k, v in found.items() if k != "next_step"}
    assert intsim_("certify", "--check", "c.json")[0] == 0
