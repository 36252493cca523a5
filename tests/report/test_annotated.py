"""Bounds at the nodes of the network's own file."""

import sys

import onnx
import pytest
from golden.networks import mixed

import intsim
from intsim import cli
from intsim.report.annotated import annotated


def told(node: onnx.NodeProto) -> dict[str, str]:
    return {p.key: p.value for p in node.metadata_props}


@pytest.mark.parametrize("target", ["exact", "wrap-12", "x86-avx2"])
def test_every_layer_carries_its_bounds(target):
    model = intsim.load(mixed())
    proven = intsim.bounds(model, target)
    made = annotated(model, proven)
    nodes = {n.name: n for n in made.graph.node if n.metadata_props}
    assert list(nodes) == [x.name for x in proven.layers]
    for layer in proven.layers:
        own = told(nodes[layer.name])
        assert own["intsim.target"] == target
        assert own["intsim.required_bits"] == str(layer.required_bits)
        for s in layer.stages:
            assert own[f"intsim.stage{s.stage}.headroom"] == str(s.bits - s.required_bits)
            assert (own[f"intsim.stage{s.stage}.proof"] == "unsafe") == (s.unsafe_channels > 0)
        assert nodes[layer.name].doc_string.startswith(f"intsim on {target}: its sum needs ")


def test_the_file_is_the_same_network_and_is_annotated_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = mixed()
    file.graph.node[-1].doc_string = next(n for n in file.graph.node if n.op_type == "Gemm").doc_string = "two\nlines"
    onnx.save(file, "m.onnx")
    for source, out in (("m.onnx", "one.onnx"), ("one.onnx", "two.onnx")):
        monkeypatch.setattr(sys, "argv", ["intsim", "bounds", source, "-t", "wrap-12", "--annotate", out])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 1, capsys.readouterr().err
    one, two = (onnx.load(f"{n}.onnx") for n in ("one", "two"))
    assert one.graph.node == two.graph.node
    assert intsim.bounds("one.onnx", "wrap-12").layers == intsim.bounds("m.onnx", "wrap-12").layers
    for node, before in zip(one.graph.node, file.graph.node, strict=True):
        told = node.doc_string.splitlines()
        assert [t for t in told if not t.startswith("intsim on wrap-12: ")] == before.doc_string.splitlines()
        assert len(told) == len(before.doc_string.splitlines()) + bool(node.metadata_props)
        del node.metadata_props[:]
        node.ClearField("doc_string")
        before.ClearField("doc_string")
    assert one.graph == file.graph


def test_nodes_of_one_name_are_left_alone():
    net = mixed()
    for node in net.graph.node:
        node.name = "same" if node.op_type == "Conv" else node.name
    model = intsim.load(net)
    made = annotated(model, intsim.bounds(model, "wrap-12"))
    assert [n.op_type for n in made.graph.node if n.metadata_props] == ["Gemm"]
