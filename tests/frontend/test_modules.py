"""Layers of files whose exporter names modules, as torch's (dynamo) does: readers see `features.0`."""

import json
import sys

import numpy as np
import onnx
import pytest

import intsim
from frontend.build import Net
from intsim import cli
from intsim.errors import IntsimError
from intsim.graph import IntegerGraph
from intsim.inspect import inspect

RNG = np.random.default_rng(4)
KEY = "pkg.torch.onnx.name_scopes"


def scoped(model, scopes):
    """The model with `scopes` (node name to list, or text) as torch's exporter writes them."""
    for node in model.graph.node:
        if node.name in scopes:
            value = scopes[node.name]
            entry = node.metadata_props.add()
            entry.key, entry.value = KEY, value if isinstance(value, str) else repr(value)
    return model


def named(net, name, op, *inputs):
    """A node called `name`."""
    made = net.node(op, *inputs)
    net.nodes[-1].name = name
    return made


def convolution(net, x, name):
    y = named(net, name, "Conv", x, net.quant(RNG.normal(size=(3, 3, 1, 1)), 0.25, 0, 4))
    return net.quant(y, 0.5, 0, 8)


def network():
    """Two convolutions and a sum; node names of the convolutions are those of torch's exporter."""
    net = Net()
    x = net.quant(net.input(1, 3, 2, 2), 0.5, 0, 8)
    y = convolution(net, x, "node_conv2d")
    z = convolution(net, y, "node_conv2d_1")
    return net.model(net.quant(named(net, "node_add", "Add", y, z), 1.0, 0, 8))


def layers(model):
    return [r["name"] for r in inspect(intsim.load(model))["layers"]]


def test_a_layer_is_called_by_its_module_everywhere(tmp_path, capfd, monkeypatch):
    scopes = {
        "node_conv2d": ["", "features", "features.0", "conv2d"],
        "node_conv2d_1": ["", "features", "features.2", "conv2d_1"],
    }
    model = scoped(network(), scopes)
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    found = inspect(intsim.load(model))["layers"]
    rows = {r["name"]: (r.get("node"), r.get("module")) for r in found}
    assert rows["features.0"] == ("node_conv2d", "features.0")
    assert rows["features.2"] == ("node_conv2d_1", "features.2")
    bounds = intsim.bounds(path, "saturate-16").to_json()["layers"]
    assert [(x["name"], x["node"], x["module"]) for x in bounds] == [
        (name, node, name) for name, node in zip(("features.0", "features.2"), scopes, strict=True)
    ]
    certificate = intsim.certify(path, "saturate-16").to_json()
    assert [(x["name"], x["source"], x["module"]) for x in certificate["layers"]] == [
        (x["name"], x["node"], x["module"]) for x in bounds
    ]
    seen = intsim.telemetry(path, target="saturate-16", samples=1).to_json()["layers"]
    assert [(x["name"], x["node"]) for x in seen] == [(x["name"], x["node"]) for x in bounds]
    verdict = intsim.verify(path, target="saturate-16", samples=1, references=False).to_json()["layers"]
    assert {"features.0", "features.2"} <= {x["name"] for x in verdict}
    swept = intsim.sweep(path, target="saturate-16", accumulator=[10, 16], samples=1).to_json()
    assert {"features.0", "features.2"} <= {x["name"] for x in swept["rows"][0]["layers"]}
    monkeypatch.setenv("COLUMNS", "200")
    for verb, *options in (["inspect"], ["bounds", "-t", "saturate-16"], ["telemetry", "-t", "saturate-16"]):
        monkeypatch.setattr(sys, "argv", ["intsim", verb, str(path), *options])
        with pytest.raises(SystemExit):
            cli.main()
        text = capfd.readouterr().out
        assert "features.0" in text
        assert "node_conv2d" not in text


def test_the_integer_graph_keeps_module_and_node(tmp_path):
    model = intsim.load(scoped(network(), {"node_conv2d": ["", "stem", "conv2d"]}))
    model.graph.save(tmp_path / "graph")
    again = IntegerGraph.load(tmp_path / "graph")
    assert again.nodes == model.graph.nodes
    conv = next(n for n in again.nodes if n.source == "node_conv2d")
    assert (conv.module, conv.shown) == ("stem", "stem")


def test_two_layers_of_one_module_are_told_apart():
    model = scoped(network(), {n: ["", "block", n.removeprefix("node_")] for n in ("node_conv2d", "node_conv2d_1")})
    names = layers(model)
    assert {"block/node_conv2d", "block/node_conv2d_1"} <= set(names)
    assert len(set(names)) == len(names)


def test_a_module_is_its_multiply_accumulate_before_others():
    scopes = {"node_conv2d": ["", "block", "conv2d"], "node_add": ["", "block", "add"]}
    model = scoped(network(), scopes)
    for node in model.graph.node[-1:]:
        entry = node.metadata_props.add()
        entry.key, entry.value = KEY, repr(["", "block", "quantize"])
    names = layers(model)
    assert "block" in names
    assert any(n.startswith("block/") for n in names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "text", ["", "[", "3", "['', 3, 'a']", "[]", "['']", "['conv2d']", "['', 'conv2d']", "__import__('os')", "[" * 9000]
)
def test_what_is_no_list_of_modules_is_passed_over(text):
    assert layers(scoped(network(), {"node_conv2d": text})) == layers(network())


def test_a_last_name_with_a_dot_is_a_module():
    assert "features.0" in layers(scoped(network(), {"node_conv2d": ["", "features", "features.0"]}))


def test_refusals_name_module_and_node():
    net = Net()
    x = net.quant(net.input(1, 3), 0.5, 0, 8)
    refused = named(net, "node_cumsum", "CumSum", x, np.int64(1))
    model = scoped(net.model(net.quant(refused, 1.0, 0, 8)), {"node_cumsum": ["", "head", "head.sum", "cumsum"]})
    with pytest.raises(IntsimError, match=r"node head\.sum/node_cumsum \(CumSum\)"):
        intsim.load(model)


def test_torch_writes_what_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    features = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.ReLU(), torch.nn.Conv2d(3, 3, 1))
    network = torch.nn.Sequential()
    network.add_module("features", features)
    path = tmp_path / "float.onnx"
    torch.onnx.export(network.eval(), (torch.zeros(1, 3, 2, 2),), str(path), dynamo=True, external_data=False)
    model = onnx.load(path)
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert all(any(p.key == KEY for p in n.metadata_props) for n in convolutions)
    net = Net()
    x = net.quant(net.input(1, 3, 2, 2), 0.5, 0, 8)
    for node in convolutions:
        x = convolution(net, x, node.name)
    mine = net.model(x)
    written = {n.name: next(p.value for p in n.metadata_props if p.key == KEY) for n in convolutions}
    names = layers(scoped(mine, written))
    assert {"features.0", "features.2"} <= set(names)
    assert json.dumps(inspect(intsim.load(mine)))
