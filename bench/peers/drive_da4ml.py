"""Time one 1x1 convolution in da4ml's bit-exact emulator; executed by the Python that has da4ml, not by ours.

Usage: python drive_da4ml.py BASE KIND SECONDS OUT.npz. BASE.json and BASE.npz are from `bench.plain`, a network of one
1x1 convolution; KIND is ignored. The weights become an adder graph first; that is timed apart, as `prepare`. Writes the
accumulators without bias (NCHW int32), prints JSON: seconds of each run.
"""

import json
import sys
import time

import numpy as np
from da4ml.trace import FixedVariableArray, comb_trace


def main(base, kind, seconds, out):
    """Trace, run, write."""
    with open(f"{base}.json") as file:
        net = json.load(file)
    arrays = np.load(f"{base}.npz")
    (layer,) = net["layers"]
    weight = arrays[f"{layer['output']}.w"][:, :, 0, 0].T.astype(np.float32)
    codes = np.rint(arrays["input"] / np.float32(net["tensors"][net["input"]]["scale"])).astype(np.float64)
    n, channels, h, w = codes.shape
    rows = np.ascontiguousarray(codes.transpose(0, 2, 3, 1).reshape(-1, channels))
    begin = time.process_time()
    given = FixedVariableArray.from_kif(np.zeros(channels, int), np.full(channels, 8), np.zeros(channels, int))
    logic = comb_trace(given, given @ weight)
    prepare = time.process_time() - begin
    y = logic.predict(rows, n_threads=1)
    cpu, wall, begin = [], [], time.perf_counter()
    while len(cpu) < 3 or time.perf_counter() - begin < seconds:
        now, c = time.perf_counter(), time.process_time()
        y = logic.predict(rows, n_threads=1)
        cpu.append(time.process_time() - c)
        wall.append(time.perf_counter() - now)
    np.savez(out, y=y.reshape(n, h, w, -1).transpose(0, 3, 1, 2).astype(np.int32))
    print(json.dumps({"cpu": cpu, "wall": wall, "prepare": prepare}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4])
