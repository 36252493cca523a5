"""Equivalence of two modules by Yosys's SAT solver: proved, refuted, or given up; giving up proves nothing."""

import re

from intsim.rtl import modules
from intsim.rtl.tools import yosys


def equivalent(module, other, folder, parameters=None, assume="", steps=None, seconds=60, texts=None):
    """Whether `module` of hardware/rtl and `other`, a file beside this one, are the same for all inputs that `assume`.

    `steps`: of registers, the most that an induction may take. `texts` replace files of hardware/rtl. Returns "proved",
    "refuted" (there are inputs that differ, from registers of 0) or "given up".
    """
    files = modules.sources(module) | (texts or {})
    here = __file__.rpartition("/")[0]
    for name, text in files.items():
        (folder / name).write_text(text)
    read = " ".join([*files, *(f"{here}/{o}.sv" for o in other)])
    given = "".join(f" -chparam {k} {v}" for k, v in (parameters or {}).items())
    script = []
    for side, top in (("gold", module), ("gate", other[-1])):
        script += [
            "design -reset",
            f"read_verilog -sv {read}",
            f"hierarchy -check -top {top}{given}",
            f"proc; flatten; delete t:$scopeinfo; opt; rename -top {side}",
            f"design -stash {side}",
        ]
    script += [
        "design -reset",
        "design -copy-from gold gold",
        "design -copy-from gate gate",
        "miter -equiv -flatten -make_outputs gold gate miter",
        "hierarchy -top miter; async2sync; dffunmap; opt",
        f"sat -timeout {seconds} {assume} -prove trigger 0 "
        + (f"-tempinduct -maxsteps {steps} -set-init-zero " if steps else "")
        + "miter",
    ]
    return _found(yosys(script, folder))


def always(top, module, folder, parameters=None, seconds=60, texts=None, cycles=None):
    """Whether output `wrong` of `top`, a file beside this one that reads `module`, is 0.

    For ever, by induction, or with `cycles` for so many and no more. `texts` and what is returned: as of `equivalent`.
    """
    files = modules.sources(module) | (texts or {})
    for name, text in files.items():
        (folder / name).write_text(text)
    given = "".join(f" -chparam {k} {v}" for k, v in (parameters or {}).items())
    steps = f"-seq 1 -tempinduct-baseonly -maxsteps {cycles}" if cycles else "-tempinduct -maxsteps 3"
    script = [
        f"read_verilog -sv {' '.join(files)} {__file__.rpartition('/')[0]}/{top}.sv",
        f"hierarchy -check -top {top}{given}",
        "proc; flatten; delete t:$scopeinfo; opt; memory -nomap; memory_map; opt; async2sync; dffunmap; opt",
        f"sat -timeout {seconds} -prove wrong 0 {steps} -set-init-zero {top}",
    ]
    return _found(yosys(script, folder))


def _found(printed):
    if "SUCCESS!" in printed:
        return "proved"
    return "refuted" if re.search(r"(?<!no )model found.*: FAIL!", printed) else "given up"
