"""Bits against end-point error: ``python -m models.trade_offs [--network h3dispnet] [--trials 400]``.

The committed network, on a target, over generated test pairs: of each layer the least proven registers, then a search
of the bits of weights, activations and registers layer by layer. Writes docs/measured/trade-offs.md, and what can be
run, to out/trade-offs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import intsim
from intsim.errors import IntsimError
from intsim.explore.metrics import Metric
from intsim.explore.search import Point, Search
from intsim.proofs.propose import Proposal
from intsim.report import files
from models.disparity import Network, disparity, read_network
from models.evaluate import TEST_PAIRS, accuracy, output_codes, pair_input
from models.stereo import generate, on_grid

PAGE = Path(__file__).resolve().parents[1] / "docs" / "measured" / "trade-offs.md"
TARGET = "saturate-32"
COSTS = ["bops", "register_bits"]


def end_point_error(network: Network) -> Metric:
    """Mean end-point error in pixels of one pair; the label is the disparity, NaN where it is not known."""

    def function(outputs: Mapping[str, NDArray[Any]], references: Mapping[str, NDArray[Any]], label: Any) -> float:
        (output,) = outputs.values()
        found = disparity(output_codes(output), network)[0]
        return accuracy(found, label, np.isfinite(label))["epe"]

    return Metric("epe", function, labels=True, references=False)


def test_data(network: Network, pairs: int) -> tuple[list[dict[str, NDArray[np.float32]]], NDArray[np.float64]]:
    """Inputs of the first test pairs, and their disparities on the output's grid, NaN where they are not valid."""
    made = [generate("test", i, network.height, network.width) for i in range(pairs)]
    truth = [np.where(on_grid(p.valid), on_grid(p.disparity), np.nan) for p in made]
    return [{"codes": pair_input(p)} for p in made], np.stack(truth)


def _bits(values: Mapping[str, Any]) -> str:
    every = [b for v in values.values() for b in (v if isinstance(v, list) else [v])]
    return str(min(every)) if min(every) == max(every) else f"{min(every)}..{max(every)}"


def _row(point: Point, name: str) -> str:
    error, *costs = point.values
    widths = " | ".join(_bits(v) for v in (point.weights, point.activations, point.registers))
    held = "proven" if point.proven else f"{point.overflows} overflows"
    return f"| {name} | {error:.4f} | {' | '.join(f'{c:,.0f}' for c in costs)} | {widths} | {held} |"


def page(proposal: Proposal, found: Search, command: str) -> str:
    """The page, of a proposal and a search."""
    columns = [*found.objectives[1:], "weights", "activations", "registers", "overflow"]
    front = [_row(p, f"{i}{' (knee)' if p.knee else ''}") for i, p in enumerate(found.front, 1)]
    uniform = [_row(p, f"{_bits(p.weights)} / {_bits(p.activations)}") for p in found.uniform]
    return TEXT.format(
        command=command,
        target=found.target,
        samples=found.samples,
        trials=found.trials,
        proposed=f"{proposal.register_bits:,}",
        needed=f"{proposal.uniform_register_bits:,}",
        bits=proposal.uniform_bits[-1],
        layers="\n".join(
            f"| `{x.name}` | {x.bits[-1]} | {x.channels} | {x.register_bits:,} |" for x in proposal.layers
        ),
        gain=_gain(found),
        head=" | ".join(columns),
        rule="---|" * len(columns),
        front="\n".join(front),
        dominated=found.dominated,
        networks=len(found.uniform),
        uniform="\n".join(uniform),
    )


def _gain(found: Search) -> str:
    """What the cheapest point takes whose error is within 2 % of that of the network as it is."""
    whole = found.uniform[-1].values
    near = next((p.values for p in found.front if p.values[0] <= 1.02 * whole[0]), None)
    if near is None:
        return "No point is within 2 % of the error of the network as it is."
    shares = (f"{n / w:.1%} of its {c}" for n, w, c in zip(near[1:], whole[1:], found.objectives[1:], strict=True))
    return (
        f"Within 2 % of the error of the network as it is ({whole[0]:.4f} px), the cheapest point ({near[0]:.4f} px) takes "
        f"{' and '.join(shares)}."
    )


TEXT = """# Bits against error

`{command}`: the committed network on `{target}`, {samples} generated
test pairs. All of it is without retraining: codes lose their last bits ([Fewer bits](../search.md#fewer-bits)).

## Registers that are proven, layer by layer

`intsim bounds --propose`: {proposed} register bits, against {needed} where every layer has {bits} bits, the least uniform width
that is proven. On the proposed target no register can overflow, for any input.

| layer | bits | channels | register bits |
|---|---|---|---|
{layers}

## Weights, activations and registers, layer by layer

`intsim search`, {trials} points by NSGA-II, seed 0: what no other point beats in end-point error, bit operations and register
bits. Registers are the least proven ones or up to three bits narrower.

{gain}

| point | EPE px | {head} |
|---|---|{rule}
{front}

## The same bits in every layer

All networks with the same bits of weights and activations, their registers as wide as the widest layer's proof asks for.
{dominated} of {networks} are beaten by a point of the search: as good in every objective and better in one.

| weights / activations | EPE px | {head} |
|---|---|{rule}
{uniform}
"""


def main(arguments: list[str] | None = None) -> None:
    """Search and write the page."""
    parser = argparse.ArgumentParser(prog="models.trade_offs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--network", default="h3dispnet")
    parser.add_argument("--pairs", type=int, default=TEST_PAIRS)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("out/trade-offs"))
    parser.add_argument("--page", type=Path, default=PAGE)
    asked = parser.parse_args(arguments)
    try:
        network = read_network(asked.network)
        path = network.file("w8a8.qonnx")
        inputs, labels = test_data(network, asked.pairs)
        proposal = intsim.propose(path, TARGET)
        found = intsim.search(
            path,
            TARGET,
            inputs,
            weights=(3, 8),
            activations=(4, 8),
            slack=3,
            metric=end_point_error(network),
            labels=labels,
            costs=COSTS,
            trials=asked.trials,
            folder=asked.out,
            progress=lambda text: print(text, file=sys.stderr),
        )
    except IntsimError as error:
        sys.exit(f"models.trade_offs: {error}")
    with files.folder(asked.out) as draft:
        files.write_json(draft / "search.json", found.to_json())
        (draft / "proposed.toml").write_text(proposal.toml)
    command = f"python -m models.trade_offs --network {asked.network} --pairs {asked.pairs} --trials {asked.trials}"
    with files.file(asked.page) as draft:
        draft.write_text(page(proposal, found, command))


if __name__ == "__main__":
    main()
