"""Run RESCALE in the TOSA reference model; executed by the Python that has tosa-tools, not by ours.

Usage: python drive_tosa.py CASES.npz ANSWERS.npz. `names` lists the cases; of each, `<name>.x` (int8, int16, int32, or
int64 for INT48), `<name>.multiplier` and `<name>.shift` (one each, or one a last-axis channel), `<name>.how`: scale32 0
or 1, double rounding 0 or 1, input zero point, output zero point, output bits 8, 16 or 32. Answers: `<name>` int64, or
an empty array where the model calls the operation unpredictable or refuses it.
"""

import sys
import tempfile

import numpy as np
import tosa_reference_model
import tosa_serializer as ts

TYPE = {8: ts.DType.INT8, 16: ts.DType.INT16, 32: ts.DType.INT32, 64: ts.DType.INT48}
NUMPY = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
SINGLE_ROUND, DOUBLE_ROUND = 1, 3


def rescale(x, multiplier, shift, scale32, double, zero_in, zero_out, bits_out):
    """One RESCALE."""
    bits_in = 8 * x.dtype.itemsize
    width = NUMPY[32 if scale32 else 16]
    with tempfile.TemporaryDirectory() as folder:
        graph = ts.TosaSerializer(folder)
        if bits_in == 64:  # the Python binding takes no INT48 inputs
            source, given = graph.addConst(list(x.shape), ts.DType.INT48, x).name, []
        else:
            graph.addInputTensor(ts.TosaSerializerTensor("x", list(x.shape), TYPE[bits_in]))
            source, given = "x", [x]
        constants = [
            graph.addConst([len(multiplier)], TYPE[32 if scale32 else 16], multiplier.astype(width)),
            graph.addConst([len(shift)], ts.DType.INT8, shift.astype(np.int8)),
            graph.addConst([1], TYPE[bits_in], np.array([zero_in], NUMPY[bits_in])),
            graph.addConst([1], TYPE[bits_out], np.array([zero_out], NUMPY[bits_out])),
        ]
        result = graph.addOutput(list(x.shape), TYPE[bits_out])
        how = ts.TosaSerializerAttribute()
        mode = DOUBLE_ROUND if double else SINGLE_ROUND
        how.RescaleAttribute(bool(scale32), mode, len(multiplier) > 1, False, False)
        graph.addOperator(ts.Op.RESCALE, [source, *(c.name for c in constants)], [result.name], how)
        answers, status = tosa_reference_model.run(bytes(graph.serialize()), given)
    if status != tosa_reference_model.GraphStatus.TOSA_VALID:
        return np.zeros(0, np.int64)
    return np.asarray(answers[0]).view(NUMPY[bits_out]).reshape(x.shape).astype(np.int64)


def main(cases, answers):
    """Answer every case of a file."""
    given = np.load(cases)
    found = {}
    for name in given["names"]:
        x, multiplier, shift = (given[f"{name}.{part}"] for part in ("x", "multiplier", "shift"))
        found[str(name)] = rescale(x, multiplier, shift, *map(int, given[f"{name}.how"]))
    np.savez(answers, **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
