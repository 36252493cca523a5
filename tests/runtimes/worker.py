"""Runs jobs in ONNX Runtime or PyTorch; started by `runtimes.py` as a process of its own, if wanted under qemu.

Usage: python worker.py JOBS.pickle ANSWERS.pickle. A job is a dict; its answer a dict of arrays, or a str, the error.
This file imports nothing of ours and of the libraries only what it is asked to run: under qemu an import takes seconds.
"""

import pickle
import sys

import numpy as np


def run_ort(job):
    """Codes of the outputs of a serialized model; `optimized`: also the model as the library runs it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, job.get("level", "ORT_ENABLE_ALL"))
    if job.get("optimized"):
        options.optimized_model_filepath = job["optimized"]
    session = ort.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, job["feeds"]), strict=True))


def quantized(torch, codes, scale, zero_point, axis=0):
    if np.ndim(scale):
        scales = torch.from_numpy(np.asarray(scale, dtype=np.float64))
        zeros = torch.from_numpy(np.broadcast_to(zero_point, np.shape(scale)).astype(np.int64))
        return torch._make_per_channel_quantized_tensor(torch.from_numpy(codes), scales, zeros, axis)
    return torch._make_per_tensor_quantized_tensor(torch.from_numpy(codes), float(scale), int(zero_point))


def run_torch(job):
    """Codes of one quantized operator of torch.ops.quantized under the engine that is named."""
    import torch

    torch.set_num_threads(1)
    torch.backends.quantized.engine = job["engine"]
    a, attributes, ops = job["arrays"], job["attributes"], torch.ops.quantized

    def activations(name):
        x = quantized(torch, a[name], a[f"{name}_scale"], a[f"{name}_zero_point"])
        return x.contiguous(memory_format=torch.channels_last) if attributes.get("channels_last") else x

    scale, zero = float(a["y_scale"]), int(a["y_zero_point"])
    if job["op"] == "conv":
        x = activations("x")
        w = quantized(torch, a["w"], a["w_scale"], a["w_zero_point"])
        bias = torch.from_numpy(a["bias"]) if "bias" in a else None
        rank = a["x"].ndim - 2
        pads = attributes["pads"][:rank]
        given = attributes["strides"], pads, attributes["dilations"], attributes["group"]
        packed = getattr(ops, f"conv{rank}d_prepack")(w, bias, *given)
        y = getattr(ops, f"conv{rank}d")(x, packed, scale, zero)
    elif job["op"] == "matmul":
        x = activations("a")
        w = quantized(torch, np.ascontiguousarray(a["b"].T), a["b_scale"], a["b_zero_point"])
        bias = torch.from_numpy(a["bias"]) if "bias" in a else None
        y = ops.linear(x, ops.linear_prepack(w, bias), scale, zero)
    elif job["op"] in ("add", "mul"):
        x, z = activations("a"), activations("b")
        y = getattr(ops, job["op"])(x, z, scale, zero)
    elif job["op"] == "concat":
        parts = [activations(name) for name in job["feeds"]]
        y = ops.cat(parts, attributes["axis"], scale, zero)
    else:
        x = activations("x")
        if job["op"] == "average_pool":
            pads = attributes["pads"][:2]
            given = attributes["kernel_shape"], attributes["strides"], pads
            y = torch.nn.functional.avg_pool2d(x, *given, count_include_pad=bool(attributes["count_include_pad"]))
        elif job["op"] == "global_average_pool":
            y = torch.nn.functional.adaptive_avg_pool2d(x, 1)
        elif job["op"] == "leaky_relu":
            y = ops.leaky_relu(x, attributes["alpha"], False, scale, zero)
        else:
            y = getattr(ops, job["op"])(x, scale, zero)
    return {"y": y.int_repr().contiguous().numpy()}


def run_torch_network(job):
    """Codes of every tensor of layers one behind the other; a quantized tensor of torch is codes, scale, zero point."""
    tensors = dict(job["feeds"])
    for layer in job["layers"]:
        arrays = layer["arrays"] | {feed: tensors[name] for feed, name in layer["names"].items()}
        tensors[layer["output"]] = run_torch(layer | {"engine": job["engine"], "arrays": arrays})["y"]
    return {layer["output"]: tensors[layer["output"]] for layer in job["layers"]}


def main(source, target):
    """Answer every job of a file; an error of one job doesn't stop the others."""
    with open(source, "rb") as file:
        jobs = pickle.load(file)
    answers = []
    for job in jobs:
        try:
            answers.append(RUN[job["library"]](job))
        except Exception as error:
            answers.append(f"{type(error).__name__}: {error}")
    with open(target, "wb") as file:
        pickle.dump(answers, file)


RUN = {"ort": run_ort, "torch": run_torch, "torch network": run_torch_network}

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
