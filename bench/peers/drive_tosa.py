"""Time one convolution in the TOSA reference model; executed by the Python that has tosa-tools, not by ours.

Usage: python drive_tosa.py BASE KIND SECONDS OUT.npz. BASE.json and BASE.npz are from `bench.plain`, a network of one
convolution; KIND is ignored. Writes the accumulators without bias (NCHW int32), prints JSON: seconds of each run.
"""

import json
import sys
import tempfile
import time

import numpy as np
import tosa_reference_model
import tosa_serializer as ts


def build(net, arrays):
    """The serialized graph, and the input codes as int8 NHWC."""
    (layer,) = net["layers"]
    source, out = net["tensors"][net["input"]], net["tensors"][layer["output"]]
    n, c, h, w = source["shape"]
    weight = arrays[f"{layer['output']}.w"].transpose(0, 2, 3, 1)
    with tempfile.TemporaryDirectory() as folder:
        graph = ts.TosaSerializer(folder)
        graph.addInputTensor(ts.TosaSerializerTensor("x", [n, h, w, c], ts.DType.INT8))
        constants = [
            graph.addConst(list(weight.shape), ts.DType.INT8, np.ascontiguousarray(weight)),
            graph.addConst([len(weight)], ts.DType.INT32, np.zeros(len(weight), np.int32)),
            graph.addConst([1], ts.DType.INT8, np.array([source["zero"] - 128], np.int8)),
            graph.addConst([1], ts.DType.INT8, np.array([0], np.int8)),
        ]
        shape = out["shape"]
        result = graph.addOutput([shape[0], shape[2], shape[3], shape[1]], ts.DType.INT32)
        how, a = ts.TosaSerializerAttribute(), layer["attributes"]
        pads = [a["pads"][0], a["pads"][2], a["pads"][1], a["pads"][3]]
        how.Conv2dAttribute(pads, a["strides"], a["dilations"], False, ts.DType.INT32)
        graph.addOperator(ts.Op.CONV2D, ["x", *(k.name for k in constants)], [result.name], how)
        model = bytes(graph.serialize())
    codes = np.rint(arrays["input"] / np.float32(source["scale"])) + source["zero"] - 128
    return model, np.ascontiguousarray(codes.transpose(0, 2, 3, 1).astype(np.int8)), shape


def main(base, kind, seconds, out):
    """Build, run, write."""
    with open(f"{base}.json") as file:
        net = json.load(file)
    model, codes, shape = build(net, np.load(f"{base}.npz"))
    cpu, wall, begin, answers = [], [], time.perf_counter(), []
    while len(cpu) < 2 or time.perf_counter() - begin < seconds:
        w, c = time.perf_counter(), time.process_time()
        answers, status = tosa_reference_model.run(model, [codes])
        cpu.append(time.process_time() - c)
        wall.append(time.perf_counter() - w)
        assert status == tosa_reference_model.GraphStatus.TOSA_VALID
    y = np.asarray(answers[0]).view(np.int32).reshape(shape[0], shape[2], shape[3], shape[1])
    np.savez(out, y=y.transpose(0, 3, 1, 2))
    print(json.dumps({"cpu": cpu, "wall": wall}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4])
