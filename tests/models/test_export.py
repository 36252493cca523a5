import json
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

from intsim.errors import IntsimError
from models import export as module
from models.batches import calibration_batches
from models.checkpoint import load_checkpoint
from models.disparity import OUTPUT_SCALE, ZOO, Network, read_network
from models.evaluate import output_codes, pair_input, run_onnx
from models.export import export
from models.networks import DispNet, fold
from models.quantize import quantize
from models.stereo import INPUT_CHANNELS, generate

pytestmark = pytest.mark.xdist_group("export")  # what its tests share is made once

KINDS = ("fp32", "w8a8.qonnx", "w8a8.qcdq")
ZOO_NAMES = ("dispnet", "h3dispnet")
AWARE = ("h3dispnet_a2q", "h3dispnet_a2qplus")


@pytest.fixture(scope="module")
def exported_once(tmp_path_factory):
    """`made`, kept: pytest makes a parametrized fixture anew whenever tests of another parameter lie between."""
    return cache(lambda order: made(order, tmp_path_factory.mktemp("zoo")))


@pytest.fixture(params=[0, 2])
def exported(request, exported_once):
    return exported_once(request.param)


def made(order, folder):
    """A tiny network, trained for two steps, quantized and exported."""
    torch.manual_seed(0)
    network = DispNet(order, (4, 6, 8, 10)).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    batches = list(calibration_batches(32, 48, 4, 2))
    for codes in batches:
        network(codes).square().mean().backward()
        optimizer.step()
    folded = fold(network)
    quantized = quantize(folded, batches)
    meta = Network("tiny", order, 32, 64)
    paths = export(folded, quantized, meta, {"step": 2}, folder)
    return folded, quantized, meta, folder, paths


def test_writes_three_onnx_files_and_the_metadata(exported):
    _, _, meta, folder, paths = exported
    assert sorted(folder.iterdir()) == sorted(paths)
    assert {path.name for path in paths} == {f"tiny_{kind}.onnx" for kind in KINDS} | {"tiny.json"}
    assert read_network(folder / "tiny.json") == meta
    assert json.loads((folder / "tiny.json").read_text())["training"] == {"step": 2}


def test_files_compute_what_torch_computes(exported):
    folded, quantized, meta, folder, _ = exported
    codes = torch.randint(0, 256, meta.input_shape).float()
    floats = run_onnx(folder / "tiny_fp32.onnx", [codes.numpy()])
    np.testing.assert_allclose(floats, folded(codes).detach().numpy(), rtol=0, atol=1e-5)
    ours = output_codes(quantized(codes).detach().numpy()).astype(int)
    theirs = output_codes(run_onnx(folder / "tiny_w8a8.qcdq.onnx", [codes.numpy()])).astype(int)
    # Both sum in float32, in different orders: a value next to a tie may round either way.
    assert np.abs(ours - theirs).max() <= 2
    assert (ours != theirs).mean() < 0.05
    with pytest.raises(ValueError, match="not INT8 codes"):
        output_codes(floats)


def test_node_names_are_unique_and_readable(exported):
    for path in exported[4][:3]:
        names = [node.name for node in onnx.load(path).graph.node]
        assert len(set(names)) == len(names)
        assert {"enc0.0.conv", "enc3.1.relu", "dec2.resize", "dec0.concat", "dec0.0.conv"} <= set(names)
        assert not [name for name in names if "/" in name or "export_handler" in name or not name]


def test_a_failing_export_writes_nothing_and_spares_the_network(exported, tmp_path, monkeypatch):
    folded, quantized, meta, _, _ = exported

    def fail(*args, **kwargs):
        raise RuntimeError("no export today")

    codes = torch.randint(0, 256, meta.input_shape).float()
    before = quantized(codes)
    monkeypatch.setattr(module, "export_onnx_qcdq", fail)
    with pytest.raises(RuntimeError, match="no export today"):
        export(folded, quantized, meta, {}, tmp_path / "zoo")
    assert not list((tmp_path / "zoo").iterdir())
    assert torch.equal(quantized(codes), before)


def test_unfinished_or_missing_checkpoints_are_refused(tmp_path):
    with pytest.raises(IntsimError, match="train the recipe first"):
        load_checkpoint(tmp_path / "none.pt")
    torch.save({"step": 1, "recipe": {"training": {"steps": 2}}}, tmp_path / "half.pt")
    with pytest.raises(IntsimError, match="stopped at step 1"):
        load_checkpoint(tmp_path / "half.pt")


@pytest.mark.parametrize("name", ZOO_NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_zoo_files_load_and_agree_with_their_metadata(name, kind):
    network = read_network(name)
    path = network.file(kind)
    assert path.stat().st_size < 5_000_000
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert model.ir_version <= 13
    (value,), (result,) = model.graph.input, model.graph.output
    assert (value.name, result.name) == ("codes", "output")
    assert [d.dim_value for d in value.type.tensor_type.shape.dim] == list(network.input_shape)
    _, channels, height, width = network.input_shape
    assert channels == INPUT_CHANNELS
    shape = [1, network.heads, height, width]
    assert [d.dim_value for d in result.type.tensor_type.shape.dim] == shape
    stated = {info.name for info in model.graph.value_info} | {result.name}
    assert {name for node in model.graph.node for name in node.output} <= stated
    output = run_onnx(path, [np.full(network.input_shape, 100, np.float32)]) if kind != "w8a8.qonnx" else None
    assert output is None or list(output.shape) == shape


@pytest.mark.parametrize("name", ZOO_NAMES)
def test_zoo_quantizers_are_8_bit_with_constant_ends(name):
    """Input UINT8 at scale 1, outputs INT8 at 2**-8, all weights narrow; both dialects hold the same scales."""
    network = read_network(name)
    qonnx, qcdq = (onnx.load(network.file(kind)).graph for kind in ("w8a8.qonnx", "w8a8.qcdq"))
    tensors = {t.name: numpy_helper.to_array(t) for t in qonnx.initializer}
    quants = {node.name: node for node in qonnx.node if node.op_type == "Quant"}
    signed = {key: {a.name: a.i for a in node.attribute}["signed"] for key, node in quants.items()}
    narrow = {key: {a.name: a.i for a in node.attribute}["narrow"] for key, node in quants.items()}
    assert tensors[quants["input.Quant"].input[1]] == 1.0
    heads = [f"head_{head}.Quant" for head in ("xy" if network.order else "q")]
    assert all(tensors[quants[head].input[1]] == float(OUTPUT_SCALE) and signed[head] for head in heads)
    for key, node in quants.items():
        assert tensors[node.input[3]] == (32 if key.endswith("bias.Quant") else 8)
        assert not tensors[node.input[2]].any()
        assert narrow[key] == key.endswith("weight.Quant")
    scales = sorted(float(tensors[node.input[1]]) for key, node in quants.items() if key.endswith("relu.Quant"))
    other = {t.name: numpy_helper.to_array(t) for t in qcdq.initializer}
    twins = [node for node in qcdq.node if node.op_type == "QuantizeLinear" and "relu" in node.name]
    assert sorted(float(other[node.input[1]]) for node in twins) == scales
    assert len(scales) == 11


@pytest.mark.parametrize("name", ZOO_NAMES)
def test_zoo_dialects_compute_the_same_codes(name):
    """QONNX through qonnx, QCDQ through ONNX Runtime; a float32 sum next to a tie may round either way."""
    network = read_network(name)
    codes = pair_input(generate("test", 1, network.height, network.width))
    outputs = execute_onnx(ModelWrapper(str(network.file("w8a8.qonnx"))), {"codes": codes})
    one = output_codes(outputs["output"]).astype(int)
    two = output_codes(run_onnx(network.file("w8a8.qcdq"), [codes])).astype(int)
    assert np.abs(one - two).max() <= 2
    assert (one != two).mean() < 0.02
    assert one.std() > 5


def test_zoo_holds_nothing_else():
    known = {f"{name}_{kind}.onnx" for name in ZOO_NAMES for kind in KINDS}
    known |= {f"{name}_w8a8.qonnx.onnx" for name in AWARE}
    known |= {f"{name}.{suffix}" for name in (*ZOO_NAMES, *AWARE) for suffix in ("json", "md")}
    assert {path.name for path in ZOO.iterdir()} == known | {"study"}
