"""Execute single QONNX nodes with qonnx, or with finn-base in its own Python.

Usage: python drive_nodes.py CASES.npz ANSWERS.npz. `nodes` is JSON: a list of [op, attributes, inputs]; input j
of node n is `n.j`, its answer `n`.
"""

import json
import sys

import numpy as np
from onnx import helper


def execute(get_custom_op, domain, op, attributes, inputs):
    """Outputs of one node; get_custom_op makes the executable operator of a NodeProto."""
    names = [f"i{j}" for j in range(len(inputs))]
    node = helper.make_node(op, names, ["y"], domain=domain, **attributes)
    context = dict(zip(names, inputs, strict=True))
    context["y"] = np.zeros_like(inputs[0])
    get_custom_op(node).execute_node(context, None)
    return np.asarray(context["y"])


def main(cases, answers):
    """Answer every node of a file with finn-base."""
    from finn.custom_op.registry import getCustomOp

    given = np.load(cases)
    found = {}
    for n, (op, attributes, count) in enumerate(json.loads(str(given["nodes"]))):
        inputs = [given[f"{n}.{j}"] for j in range(count)]
        found[str(n)] = execute(getCustomOp, "finn.custom_op.general", op, attributes, inputs)
    np.savez(answers, **found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
