"""A certificate is about layers: where there is none, nothing is certified."""

import sys

import numpy as np
import onnx
import pytest

import intsim
from intsim import cli
from intsim.testing.net import Net


def only_an_input_quantizer(net):
    return net.quant(net.input(1, 4))


def work_on_the_host(net):
    return net.node("MatMul", net.quant(net.input(1, 4)), np.float32([[0.1], [0.3], [0.2], [0.7]]))


def codes_pass(net):
    return net.node("Transpose", net.input(1, 4, kind=onnx.TensorProto.INT8), perm=[1, 0])


@pytest.mark.parametrize("make", [only_an_input_quantizer, work_on_the_host, codes_pass])
def test_no_layer(tmp_path, monkeypatch, capsys, make):
    net = Net()
    model = net.model(make(net))
    with pytest.raises(intsim.IntsimError, match=r"nothing to certify: .* no multiply-accumulate and no") as e:
        intsim.certify(model)
    assert ("MatMul_" in str(e.value)) == (make is work_on_the_host)
    path = tmp_path / "m.onnx"
    onnx.save(model, str(path))
    monkeypatch.setattr(sys, "argv", ["intsim", "certify", str(path), "-o", str(tmp_path / "c.json")])
    with pytest.raises(SystemExit) as left:
        cli.main()
    out, err = capsys.readouterr()
    assert left.value.code == 2
    assert "certified" not in out
    assert err.count("\n") == 1
    assert "m.onnx: there is nothing to certify" in err
    assert not (tmp_path / "c.json").exists()


def test_one_requantizer_is_something():
    net = Net()
    assert intsim.certify(net.model(net.quant(net.quant(net.input(1, 4)), 0.5))).verdict == "certified"
