"""Peers in their own environments on the same networks and layers, as rows with times and whether they agree."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.contestants import intsim_run, loaded
from bench.networks import FOLDER, NETWORKS, Network, layer
from bench.peers.install import install, python, version
from bench.plain import save
from bench.race import code_step, differs, one_line
from bench.timing import take_turns

HERE = Path(__file__).resolve().parent
MAX_SECONDS = 300


@dataclass(frozen=True)
class Peer:
    """A driver and what it is asked. `accumulators`: it hands back sums without bias, not outputs."""

    title: str
    environment: str
    kind: str = ""
    accumulators: bool = False


REFERENCE = Peer("LiteRT reference kernels", "litert", "reference")
BUILTIN = Peer("LiteRT built-in kernels", "litert", "builtin")
XNNPACK = Peer("LiteRT XNNPACK", "litert", "xnnpack")
TOSA = Peer("TOSA reference model", "tosa", accumulators=True)
DA4ML = Peer("da4ml emulator", "da4ml", accumulators=True)


def ask(peer: Peer, network: Network, seconds: float, folder: Path = FOLDER.parent / "plain") -> dict[str, Any]:
    """One row; with a `reason` where the peer can't answer."""
    row: dict[str, Any] = {"peer": peer.title, "network": network.name, "macs": network.macs}
    reason = install(peer.environment)
    if reason is not None:
        return {**row, "reason": reason}
    base = save(network, folder)
    out = folder / "answer.npz"
    driver = HERE / f"drive_{peer.environment}.py"
    command = [str(python(peer.environment)), str(driver), str(base), peer.kind, str(seconds), str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {**row, "reason": f"took longer than {MAX_SECONDS} s"}
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return {**row, "reason": lines[-1][:160] if lines else f"ended with {done.returncode}"}
    times = json.loads(done.stdout.splitlines()[-1])
    with np.load(out) as answers:
        answer = answers["y"]
    row["cpu_ms"], row["cpu_min_ms"] = 1e3 * statistics.median(times["cpu"]), 1e3 * min(times["cpu"])
    row["wall_ms"], row["runs"] = 1e3 * statistics.median(times["wall"]), len(times["cpu"])
    row["gmacs"], row["version"] = network.macs / row["cpu_ms"] / 1e6, version(peer.environment)
    if "prepare" in times:
        row["prepare_s"] = times["prepare"]
    row["differs"], row["distance"] = agreement(peer, network, answer)
    return row


def agreement(peer: Peer, network: Network, answer: np.ndarray) -> tuple[float, int]:
    """Fraction of values that are not intsim's exact ones, and the greatest distance."""
    exact = loaded(network).run(network.inputs, "exact", keep=peer.accumulators)
    if peer.accumulators:
        (node,) = (n for n in loaded(network).graph.nodes if n.op == "conv")
        sums = exact.tensors[node.output] - node.arrays.get("bias", np.zeros(1, np.int64)).reshape(-1, 1, 1)
        return differs(answer, sums.reshape(answer.shape), 1.0)
    output = next(iter(exact.outputs.values()))
    return differs(answer.reshape(output.shape), output, code_step(network))


def compare(quick: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """LiteRT on whole networks and a layer, TOSA and da4ml on a layer, and intsim on those layers."""
    seconds = 0.5 if quick else 2.0
    layers = [layer(128, 32, 64), layer(32, 64, 128, 1)]
    whole = ("unet", "h3dispnet") if quick else ("unet", "h3dispnet", "mobilenet", "mlp64", "mlp1")
    litert = (REFERENCE, BUILTIN, XNNPACK)
    pairs: list[tuple[Peer, Network | str]] = [(p, n) for n in whole for p in litert]
    pairs += [(p, layers[0]) for p in (*litert, TOSA)] + [(DA4ML, layers[1])]
    rows = []
    for peer, which in pairs:
        network = NETWORKS[which]() if isinstance(which, str) else which
        progress(f"{peer.title} on {network.name}")
        try:
            rows.append(ask(peer, network, seconds))
        except Exception as error:
            rows.append({"peer": peer.title, "network": network.name, "macs": network.macs, "reason": one_line(error)})
    for network in layers:
        progress(f"intsim on {network.name}")
        for target in ("exact", "saturate-18"):
            run = intsim_run(target)(network)
            run()
            timing = take_turns({target: run}, seconds)[target].to_json()
            found = {"peer": f"intsim {target}", "network": network.name, "macs": network.macs, **timing}
            rows.append({**found, "gmacs": network.macs / timing["cpu_ms"] / 1e6})
    return {"rows": rows}
