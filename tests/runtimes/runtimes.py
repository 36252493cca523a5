"""Runs drawn layers in ONNX Runtime and PyTorch, natively or on another CPU under qemu-x86_64, many in one process.

Starting onnxruntime takes seconds under qemu and torch half a minute, so cases are handed over in batches by a file.

"native" is meant to be a CPU with AVX512-VNNI. oneDNN is told to use nothing newer (ONEDNN_MAX_CPU_ISA): with AMX it
takes other kernels, which multiply scales in another order.
"""

import contextlib
import os
import pickle
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

import intsim
from intsim.verification.executors import graph_of_onnxruntime

from . import draw

WORKER = Path(__file__).with_name("worker.py")
NATIVE, HASWELL = "native", "Haswell"


def emulator():
    """Path of qemu-x86_64, or None."""
    return shutil.which("qemu-x86_64")


def why_not(machine):
    """Why a machine can't be run here, or None: native always, others need qemu-x86_64 (Debian package qemu-user)."""
    if machine == NATIVE or emulator():
        return None
    return "qemu-x86_64 is not installed"


def answer(jobs, machine=NATIVE, timeout=1800):
    """Answers of `worker.py` to jobs: a dict of arrays each, or a str. RuntimeError where the process itself fails."""
    command = [sys.executable, str(WORKER)]
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}
    if machine != NATIVE:
        command = [emulator(), "-cpu", machine, *command]
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "jobs"), Path(folder, "answers")
        source.write_bytes(pickle.dumps(jobs))
        done = subprocess.run(
            [*command, str(source), str(target)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            check=False,
        )
        if done.returncode or not target.exists():
            raise RuntimeError(f"{machine}: worker ended with {done.returncode}: {done.stderr[-2000:]}")
        return pickle.loads(target.read_bytes())


def executed(model):
    """What `intsim.load_executed` returns, without a process for each file."""
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        made = graph_of_onnxruntime(model, {}, [])["model"]
    loaded = intsim.load(onnx.load_from_string(made.tobytes()))
    loaded.graph.executed_by = f"onnxruntime {version('onnxruntime')}"
    return loaded


def onnxruntime(drawn, machine=NATIVE, form="qoperator", every_tensor=False, level="ORT_ENABLE_ALL"):
    """Codes of each case or network in ONNX Runtime: a dict of tensors each (a case's output is `y`), or an error."""
    jobs = []
    for one in drawn:
        model = draw.model(one, form, every_tensor).SerializeToString()
        jobs.append({"library": "ort", "model": model, "feeds": draw.network_feeds(one), "level": level})
    return answer(jobs, machine)


def torch(cases, engine, machine=NATIVE):
    """Codes of each case under an engine of torch: "fbgemm", "x86", "onednn" or "qnnpack"."""
    return answer([torch_job(case, engine) for case in cases], machine)


def torch_networks(networks, engine, machine=NATIVE):
    """Codes of every tensor of each network of convolutions under an engine of torch."""
    jobs = []
    for one in networks:
        layers = [
            {"op": case.op, "arrays": case.arrays, "attributes": case.attributes, "feeds": case.feeds, "names": names,
             "output": output}
            for case, names, output in one.layers
        ]  # fmt: skip
        jobs.append({"library": "torch network", "engine": engine, "layers": layers, "feeds": one.feeds})
    return answer(jobs, machine)


def torch_job(case, engine):
    """A case as `worker.py` wants it; jobs of several engines may share a process."""
    job = {"library": "torch", "engine": engine, "op": case.op, "arrays": case.arrays}
    return job | {"feeds": case.feeds, "attributes": case.attributes}
