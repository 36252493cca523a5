"""hls4ml's compiled C simulation (Vitis backend), asked in a process of its own.

`answers(net)` has the Python that has hls4ml write a QONNX file, convert it, compile it with g++ and run it. Executed
as a script (`python hls4ml_csim.py IN.npz OUT.npz`) this file is the other side; it needs nothing of the project.
All numbers are integers: a tensor's codes and the number of its fraction bits.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve()
PEER = HERE.parent.parent.parent / "out" / "oracles" / "hls4ml" / "bin" / "python"  # `make oracles`
SECONDS = 900


def python() -> str | None:
    """A Python that has hls4ml, or None."""
    if importlib.util.find_spec("hls4ml") is not None:
        return sys.executable
    return str(PEER) if PEER.is_file() else None


def why_not() -> str | None:
    """Why the simulation can't be asked, or None."""
    if python() is None:
        return "hls4ml is not installed; run `make oracles`"
    return None if shutil.which("g++") else "g++ isn't installed"


WHY_NOT = why_not()


class Net:
    """Layers from one input of `shape` (channels last; [n] or [h, w, c]); the input has `bits` and `fraction` bits."""

    def __init__(self, shape, bits, fraction):
        self.shape, self.layers, self.arrays = list(shape), [], {}
        self.layers.append({"kind": "input", "bits": bits, "fraction": fraction, "signed": True})

    def add(self, kind, precision=None, **fields):
        """A layer: dense, conv, relu, pool. `precision`: hls4ml's types by name (accum, result); arrays become data."""
        index = len(self.layers)
        for name in [n for n, v in fields.items() if isinstance(v, np.ndarray)]:
            self.arrays[f"{index}.{name}"] = fields.pop(name)
        self.layers.append({"kind": kind, "precision": precision or {}, **fields})


def answers(net, codes):
    """What every layer returns for the input codes (samples first, channels last): {name: float64 array}, and under
    "types" the types that hls4ml chose, as {layer: {type: text}}.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder) / "in.npz", Path(folder) / "out.npz"
        described = {"shape": net.shape, "layers": net.layers, "folder": str(Path(folder) / "project")}
        text = np.frombuffer(json.dumps(described).encode(), np.uint8)
        np.savez(asked, json=text, codes=codes, **net.arrays)
        command = [python(), str(HERE), str(asked), str(told)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"hls4ml ended with {done.returncode}: {done.stderr[-3000:]}{done.stdout[-1000:]}")
        with np.load(told) as file:
            found = {name: file[name] for name in file.files}
    found["types"] = json.loads(found["types"].tobytes())
    return found


def qonnx_file(shape, layers, arrays):
    """The QONNX model: channels first, as ONNX has it."""
    from onnx import TensorProto, helper

    nodes, constants = [], []

    def constant(name, value):
        value = np.asarray(value, np.float32)
        constants.append(helper.make_tensor(name, TensorProto.FLOAT, value.shape, value.ravel()))
        return name

    def quant(source, name, bits, fraction, signed):
        scale = constant(f"{name}.scale", 2.0**-fraction)
        inputs = [source, scale, constant(f"{name}.zero", 0), constant(f"{name}.bits", bits)]
        nodes.append(helper.make_node("Quant", inputs, [f"{name}.q"], name, domain="qonnx.custom_op.general",
                                      signed=int(signed), narrow=0, rounding_mode="ROUND"))  # fmt: skip
        return f"{name}.q"

    first = [1, *shape[-1:], *shape[:-1]]
    now = quant("x", "input", layers[0]["bits"], layers[0]["fraction"], True)
    for index, layer in list(enumerate(layers))[1:]:
        name, kind = f"layer{index}", layer["kind"]
        if kind in ("dense", "conv"):
            weight, bias = arrays[f"{index}.weight"], arrays[f"{index}.bias"]
            bits, fraction = layer["bits"], layer["fraction"]
            w = quant(constant(f"{name}.w", weight * 2.0**-fraction), f"{name}.wq", bits, fraction, True)
            b = constant(f"{name}.b", bias * 2.0 ** -layer["bias_fraction"])
            b = quant(b, f"{name}.bq", layer["bias_bits"], layer["bias_fraction"], True)
            if kind == "dense":
                nodes.append(helper.make_node("MatMul", [now, w], [f"{name}.m"], name))
                nodes.append(helper.make_node("Add", [f"{name}.m", b], [f"{name}.y"], f"{name}_add"))
            else:
                nodes.append(helper.make_node("Conv", [now, w, b], [f"{name}.y"], name, pads=layer["pads"],
                                              strides=layer["strides"], kernel_shape=list(weight.shape[2:]),
                                              dilations=[1, 1], group=1))  # fmt: skip
            now = f"{name}.y"
        elif kind == "relu":
            nodes.append(helper.make_node("Relu", [now], [f"{name}.y"], name))
            now = quant(f"{name}.y", f"{name}.q", layer["bits"], layer["fraction"], layer["signed"])
        elif kind == "pool":
            nodes.append(helper.make_node(layer["op"], [now], [f"{name}.y"], name, kernel_shape=layer["kernel"],
                                          strides=layer["kernel"], pads=[0, 0, 0, 0]))  # fmt: skip
            now = f"{name}.y"
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, first)],
                              [helper.make_tensor_value_info(now, TensorProto.FLOAT, None)], constants)  # fmt: skip
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("qonnx.custom_op.general", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def main(asked, told):
    import hls4ml
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
    from qonnx.util.cleanup import cleanup_model

    with np.load(asked) as file:
        arrays = {name: file[name] for name in file.files}
    net = json.loads(arrays.pop("json").tobytes())
    shape, layers, codes = net["shape"], net["layers"], arrays.pop("codes")
    model = cleanup_model(ModelWrapper(qonnx_file(shape, layers, arrays)))
    if len(shape) > 1:
        model = cleanup_model(model.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True)))
    config = hls4ml.utils.config_from_onnx_model(
        model, granularity="name", backend="Vitis", default_precision="fixed<24,12>"
    )
    config["Model"]["TraceOutput"] = True
    weighted = [n.name for n in model.graph.node if n.op_type in ("MatMul", "Conv", "MaxPool", "AveragePool")]
    wanted = [layer for layer in layers if layer["kind"] in ("dense", "conv", "pool")]
    for name, layer in zip(weighted, wanted, strict=True):
        config["LayerName"][name]["Precision"].update(layer["precision"])
        config["LayerName"][name].update(layer.get("config", {}))
    for configured in config["LayerName"].values():
        configured["Trace"] = True
    converted = hls4ml.converters.convert_from_onnx_model(
        model, output_dir=net["folder"], backend="Vitis", hls_config=config, io_type="io_parallel",
        part="xcu250-figd2104-2L-e",
    )  # fmt: skip
    types = {x.name: {k: str(v.precision) for k, v in x.types.items()} for x in converted.get_layers()}
    for x in converted.get_layers():
        types[x.name]["reuse_factor"] = int(x.get_attr("reuse_factor", 1) or 1)
    converted.compile()
    values = np.ascontiguousarray(codes * 2.0 ** -layers[0]["fraction"])
    last, trace = converted.trace(values)
    found = {name: np.asarray(value) for name, value in trace.items()}
    np.savez(told, last=last, types=np.frombuffer(json.dumps(types).encode(), np.uint8), **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
