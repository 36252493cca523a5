"""LiteRT, asked in a process of its own: .tflite files drawn by hand, run by each of its three kernel sets.

`Net` describes a file in plain numbers; `answers(nets)` starts the Python that has ai-edge-litert once for all of
them. Executed as a script (`python litert.py IN.npz OUT.npz`) this file is the other side: there it needs numpy,
flatbuffers and ai-edge-litert, and nothing of the project.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve()
PEER = HERE.parent.parent.parent / "out" / "oracles" / "litert" / "bin" / "python"  # `make oracles`
KINDS = ("reference", "builtin", "xnnpack")
SECONDS = 900


def python() -> str | None:
    """A Python that has ai-edge-litert, or None."""
    if importlib.util.find_spec("ai_edge_litert") is not None:
        return sys.executable
    return str(PEER) if PEER.is_file() else None


WHY_NOT = None if python() else "ai-edge-litert is not installed; run `make oracles`"


class Net:
    """A .tflite file: tensors (NHWC), operators in order. `outputs`: tensors; None: every operator's result."""

    def __init__(self):
        self.tensors, self.operators, self.arrays, self.inputs = [], [], {}, []
        self.outputs = None

    def tensor(self, shape, dtype="int8", scale=None, zero=0, axis=0, data=None):
        """Index of a new tensor. `scale`: one number or one a channel of `axis`; `data` makes it a constant."""
        t = {"shape": [int(s) for s in shape], "type": dtype, "axis": axis, "scale": None, "zero": None}
        if scale is not None:
            t["scale"] = [float(np.float32(s)) for s in np.atleast_1d(scale)]
            t["zero"] = [int(z) for z in np.broadcast_to(np.atleast_1d(zero), len(t["scale"]))]
        if data is not None:
            self.arrays[f"constant.{len(self.tensors)}"] = np.asarray(data, dtype)
        self.tensors.append(t)
        return len(self.tensors) - 1

    def given(self, codes, scale, zero=0):
        """Index of an input with these codes, whose dtype is the tensor's."""
        index = self.tensor(codes.shape, codes.dtype.name, scale, zero)
        self.arrays[f"input.{index}"] = codes
        self.inputs.append(index)
        return index

    def operator(self, code, inputs, output, version=1, options=None, **fields):
        """A new operator; `options` is the name of its table in the schema without "Options"."""
        self.operators.append({"code": code, "version": version, "inputs": [int(i) for i in inputs],
                               "output": int(output), "options": options, "fields": fields})  # fmt: skip
        return output


def answers(nets, kinds=KINDS):
    """For each net and kind a dict: tensor index -> codes, or a str: why LiteRT refused. `delegated`: by how many
    operators of the file XNNPACK's delegate took (key "taken"), for kind xnnpack only. Kind "file" has the bytes.
    """
    arrays, nets = {}, list(nets)
    for i, net in enumerate(nets):
        arrays |= {f"{i}.{name}": a for name, a in net.arrays.items()}
    plain = [{"tensors": n.tensors, "operators": n.operators, "inputs": n.inputs, "outputs": n.outputs} for n in nets]
    arrays["json"] = np.frombuffer(json.dumps({"nets": plain, "kinds": list(kinds)}).encode(), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(asked, **arrays)
        command = [python(), str(HERE), str(asked), str(told)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"LiteRT ended with {done.returncode}: {done.stderr[-2000:]}")
        with np.load(told) as file:
            found = {name: file[name] for name in file.files}
    refused = json.loads(found.pop("json").tobytes())
    out = [{kind: {} for kind in (*kinds, "file")} for _ in nets]
    for name, codes in found.items():
        i, kind, tensor = name.split(".")
        out[int(i)][kind][int(tensor) if tensor.isdigit() else tensor] = codes
    for name, reason in refused.items():
        i, kind = name.split(".")
        out[int(i)][kind] = reason
    return out


def file_bytes(net, arrays, name):
    """The .tflite file of a description."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    graph, model, codes = schema.SubGraphT(), schema.ModelT(), {}
    graph.tensors, graph.operators = [], []
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [schema.BufferT()], []
    types = {n.lower(): v for n, v in vars(schema.TensorType).items() if not n.startswith("_")}
    for i, described in enumerate(net["tensors"]):
        t = schema.TensorT()
        t.name, t.shape, t.type, t.buffer = f"t{i}", described["shape"], types[described["type"]], 0
        constant = arrays.get(f"{name}.constant.{i}")
        if constant is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(constant).tobytes(), np.uint8)
            t.buffer = len(model.buffers)
            model.buffers.append(buffer)
        if described["scale"] is not None:
            q = schema.QuantizationParametersT()
            q.scale, q.zeroPoint = np.array(described["scale"], np.float32), np.array(described["zero"], np.int64)
            q.quantizedDimension = described["axis"]
            t.quantization = q
        graph.tensors.append(t)
    for described in net["operators"]:
        key = described["code"], described["version"]
        if key not in codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.version = getattr(schema.BuiltinOperator, key[0]), key[1]
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            codes[key] = len(model.operatorCodes)
            model.operatorCodes.append(code)
        o = schema.OperatorT()
        o.opcodeIndex, o.inputs, o.outputs = codes[key], described["inputs"], [described["output"]]
        if described["options"]:
            o.builtinOptionsType = getattr(schema.BuiltinOptions, described["options"] + "Options")
            o.builtinOptions = getattr(schema, described["options"] + "OptionsT")()
            for field, value in described["fields"].items():
                setattr(o.builtinOptions, field, value)
        graph.operators.append(o)
    graph.inputs, graph.outputs = net["inputs"], net["outputs"]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def main(asked, told):
    from ai_edge_litert import interpreter as litert

    types = litert.OpResolverType
    resolvers = {"reference": types.BUILTIN_REF, "builtin": types.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                 "xnnpack": types.BUILTIN}  # fmt: skip
    with np.load(asked) as file:
        arrays = {name: file[name] for name in file.files}
    asked, found, refused = json.loads(arrays.pop("json").tobytes()), {}, {}
    for i, net in enumerate(asked["nets"]):
        if net["outputs"] is None:
            net["outputs"] = [o["output"] for o in net["operators"]]
        content = file_bytes(net, arrays, i)
        found[f"{i}.file.file"] = np.frombuffer(content, np.uint8)
        for kind in asked["kinds"]:
            try:
                runner = litert.Interpreter(
                    model_content=content, num_threads=1, experimental_op_resolver_type=resolvers[kind]
                )
                runner.allocate_tensors()
                for tensor in net["inputs"]:
                    runner.set_tensor(tensor, arrays[f"{i}.input.{tensor}"])
                runner.invoke()
            except (RuntimeError, ValueError) as error:
                refused[f"{i}.{kind}"] = str(error)
                continue
            for tensor in net["outputs"]:
                found[f"{i}.{kind}.{tensor}"] = runner.get_tensor(tensor)
            if kind == "xnnpack":
                delegated = [o for o in runner._get_ops_details() if o["op_name"] == "DELEGATE"]
                outputs = {int(t) for o in delegated for t in o["outputs"]}
                found[f"{i}.{kind}.taken"] = np.array([o["output"] in outputs for o in net["operators"]])
    found["json"] = np.frombuffer(json.dumps(refused).encode(), np.uint8)
    np.savez(told, **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
