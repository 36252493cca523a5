"""No executor gets a node of a domain that nobody knows, and qonnx imports no module that a file names."""

import sys

import onnx
import pytest
from verification.test_executors import SAMPLE, model
from verification.test_hostile_folder import foreign as foreign_model

from intsim.verification import executors
from intsim.verification.executors import FAMILIES, Executor, by_qonnx, foreign, only_known_domains


def graph(domain: str) -> onnx.GraphProto:
    node = onnx.helper.make_node("Relu", ["x"], ["inner"], name="inside", domain=domain)
    return onnx.helper.make_graph([node], "g", [], [onnx.ValueInfoProto(name="inner")])


def with_branch(domain: str) -> onnx.ModelProto:
    net = model()
    inner = onnx.helper.make_node("If", ["c"], ["o"], then_branch=graph(domain), else_branch=graph(""))
    outer = onnx.helper.make_graph([inner], "outer", [], [onnx.ValueInfoProto(name="o")])
    net.graph.node.append(onnx.helper.make_node("If", ["c"], ["p"], then_branch=graph(""), else_branch=outer))
    return net


def with_graph_list(domain: str) -> onnx.ModelProto:
    net = model()
    node = onnx.helper.make_node("Odd", ["x"], ["q"])
    node.attribute.append(onnx.helper.make_attribute("graphs", [graph(""), graph(domain)]))
    net.graph.node.append(node)
    return net


def with_function(domain: str) -> onnx.ModelProto:
    net = model()
    body = [onnx.helper.make_node("Relu", ["x"], ["y"], name="inside", domain=domain)]
    net.functions.append(onnx.helper.make_function("", "F", ["x"], ["y"], body, []))
    return net


@pytest.mark.parametrize("build", [with_branch, with_graph_list, with_function])
def test_wherever_it_stands(build):
    assert foreign(build("")) is None
    assert foreign(build("evil_mod")) == "not run: node 'inside' (Relu) is of the unknown domain 'evil_mod'"


@pytest.mark.parametrize("domain", ["ai.onnx.ml", "os", "qonnx", "qonnx.util.cleanup", "qonnx.custom_op", " ", "finn"])
def test_near_names(domain):
    assert foreign(with_function(domain)) is not None


def test_known_ones():
    assert foreign(model()) is None
    for domain in ("", "ai.onnx", "com.microsoft", *executors.CUSTOM_DOMAINS):
        assert foreign(with_branch(domain)) is None


def test_an_operator_that_runs_another_file():
    net = model()
    node = onnx.helper.make_node("GenericPartition", ["x"], ["z"], domain="qonnx.custom_op.general", model="b.onnx")
    net.graph.node.append(node)
    assert foreign(net) == "not run: node 'z' (GenericPartition) opens another file"


@pytest.mark.parametrize("kind", FAMILIES)
def test_no_process_is_started(monkeypatch, kind):
    monkeypatch.setattr(executors, "start", None)
    process = Executor(kind, foreign_model(), SAMPLE, ["z"])
    assert process.result(5).reason == "not run: node 'tail' (Softplus) is of the unknown domain 'evil_mod'"
    process.stop()


def test_qonnx_does_not_import_a_domain(tmp_path, monkeypatch):
    """The last lock, with the others open: the module that the domain names lies on the path, and stays there."""
    (tmp_path / "evil_mod.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    net = foreign_model()
    with pytest.raises(Exception, match=r"(?i)Softplus|evil_mod") as caught:
        by_qonnx(net, dict(SAMPLE), ["z"])
    assert not isinstance(caught.value, SystemExit)
    assert "evil_mod" not in sys.modules


@pytest.mark.parametrize("domain", ["evil_mod", "os.path", "qonnx.util.cleanup", "qonnx", "com.microsoft", "..evil"])
def test_what_the_registry_imports(domain):
    from qonnx.custom_op import registry

    only_known_domains()
    assert not registry.is_custom_op(domain)
    assert not registry.is_custom_op(domain, "Quant")
    assert registry.is_custom_op("qonnx.custom_op.general", "Quant")
    assert registry.is_custom_op("onnx.brevitas", "Quant")
    assert registry.is_custom_op("qonnx.custom_op.channels_last", "Conv")


def test_annotations_are_not_evaluated(tmp_path):
    """qonnx takes the text of two kinds for Python; only the data types, which are names, are left."""
    net = model()
    for key in ("tensor_layout", "tensor_sparsity", "finn_datatype"):
        note = net.graph.quantization_annotation.add(tensor_name="x")
        text = "FLOAT32" if key == "finn_datatype" else f"open({str(tmp_path / 'proof')!r}, 'w')"
        note.quant_parameter_tensor_names.add(key=key, value=text)
    executors.without_code(net.graph)
    kept = [e.key for a in net.graph.quantization_annotation for e in a.quant_parameter_tensor_names]
    assert kept == ["finn_datatype"]
