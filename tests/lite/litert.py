"""LiteRT's own answer to a .tflite file, from a Python that has ai-edge-litert.

That is this one, the one that `bench/peers` installs, or the one that INTSIM_LITERT names. Executed as a script
(`python litert.py FOLDER`) this file is the other side: of every FOLDER/N.tflite it writes FOLDER/N.out.npz, the
outputs for the inputs in FOLDER/N.npz, by the reference kernels.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
PEER = ROOT / "out" / "bench" / "peers" / "litert" / "bin" / "python"


def python() -> str | None:
    """A Python that has ai-edge-litert."""
    if importlib.util.find_spec("ai_edge_litert") is not None:
        return sys.executable
    named = os.environ.get("INTSIM_LITERT")
    return named or (str(PEER) if PEER.is_file() else None)


WHY_NOT = None if python() else "no Python with ai-edge-litert: python -m bench.peers installs one, or INTSIM_LITERT"


def answers(folder: Path, nets: list[bytes], samples: list[dict[str, np.ndarray]]) -> list[list[np.ndarray] | str]:
    """Outputs of each network in the file's order, or why there are none."""
    for i, (net, sample) in enumerate(zip(nets, samples, strict=True)):
        (folder / f"{i}.tflite").write_bytes(net)
        np.savez(folder / f"{i}.npz", **{f"{k:03}": v for k, v in enumerate(sample.values())})
    done = subprocess.run([str(python()), __file__, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    out: list[list[np.ndarray] | str] = []
    for i in range(len(nets)):
        with np.load(folder / f"{i}.out.npz") as held:
            out.append(str(held["error"]) if "error" in held.files else [held[k] for k in sorted(held.files)])
    return out


def main(folder: Path) -> None:
    """The other side."""
    from ai_edge_litert import interpreter as litert

    for path in sorted(folder.glob("*.tflite")):
        with np.load(path.with_suffix(".npz")) as held:
            arrays = [held[k] for k in sorted(held.files)]
        try:
            runner = litert.Interpreter(
                model_content=path.read_bytes(),
                num_threads=1,
                experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
            )
            runner.allocate_tensors()
            for detail, array in zip(runner.get_input_details(), arrays, strict=True):
                runner.set_tensor(detail["index"], array)
            runner.invoke()
            made = {f"{k:03}": runner.get_tensor(d["index"]) for k, d in enumerate(runner.get_output_details())}
        except (RuntimeError, ValueError) as error:
            made = {"error": np.array(str(error))}
        np.savez(path.with_suffix(".out.npz"), **made)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
