"""The verb `warmup`: compile every kernel now, so that no later run has to."""

from __future__ import annotations

import sys
import time

from intsim.cli.options import Json, app, console, emit, progress


@app.command()
def warmup(json_: Json = False) -> None:
    """Compile every kernel, for this processor, and keep the machine code for later runs.

    NUMBA_CACHE_DIR names the folder; without it that's the package's own, or the user's where that can't be written.
    """
    began = time.perf_counter()
    from intsim.engine.warmup import Job, jobs
    from intsim.frontend.codes import warm
    from intsim.jit.compile import cache_folder, census
    from intsim.report.table import say

    todo = [*jobs(), Job("input codes", warm)]
    with progress(len(todo)) as step:
        for job in todo:
            step(job.name)
            job.run()
    loaded, compiled = census()
    folder, seconds = cache_folder(), time.perf_counter() - began
    if json_:
        kept = None if folder is None else str(folder)
        emit({"format": "intsim-warmup-1", "compiled": compiled, "loaded": loaded, "seconds": seconds, "folder": kept})
    else:
        made = f"{compiled} kernels compiled, {loaded} already there, {seconds:.1f} s"
        say(console(), f"{made}; {f'kept in {folder}' if folder else 'kept nowhere'}")
    if folder is None:
        sys.stderr.write("intsim: no folder for compiled kernels can be written; set NUMBA_CACHE_DIR to one\n")
