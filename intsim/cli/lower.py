"""The verb `lower`: the steps from the file to its integer graph, as files."""

from pathlib import Path
from typing import Annotated

import typer

from intsim.cli.options import OnModel, console, emit, verb


@verb
def lower(asked: OnModel, out: Annotated[Path, typer.Option("--out", "-o", help="folder to write")]) -> None:
    """Write the lowering steps: the file, host prologue, integer graph (JSON and .npz), islands, host epilogue."""
    import onnx

    from intsim.report import files
    from intsim.report.table import say

    model = asked.loaded
    with files.folder(out) as draft:
        (draft / "0_source.onnx").write_bytes(model.lowered.source.proto.SerializeToString())
        onnx.save(model.lowered.prologue.model(), str(draft / "1_prologue.onnx"))
        model.graph.save(draft / "2_graph")
        onnx.save(model.lowered.epilogue.model(), str(draft / "3_epilogue.onnx"))
        islands = {f"2_island_{i}.onnx": part.host for i, part in enumerate(model.lowered.parts[1:-1], 1)}
        for name, host in islands.items():
            onnx.save(host.model(), str(draft / name))
    written = ["0_source.onnx", "1_prologue.onnx", "2_graph.json", "2_graph.npz", *islands, "3_epilogue.onnx"]
    if asked.json_:
        counts = {"integer_nodes": len(model.graph.nodes), "files": [str(out / f) for f in written]}
        emit({"format": "intsim-lowering-1", "model": model.path, **counts})
    else:
        say(console(), f"{len(model.graph.nodes)} integer nodes; wrote {', '.join(written)} to {out}")
