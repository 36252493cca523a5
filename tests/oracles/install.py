"""`make oracles`: finn-base, the TOSA reference model, LiteRT and hls4ml, each into a virtual environment of its own.

"flows" has intsim itself beside hls4ml, da4ml and cocotb, for the examples that need both.

finn-base 0.0.3 calls itself 0.0.0 in its metadata, so pip takes it only by address; its build finds no version unless
it is told one, and needs pkg_resources and bitstring below 4. Both are pinned: an oracle that changes is no oracle.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "out" / "oracles"
FINN_BASE = (
    "finn-base @ https://files.pythonhosted.org/packages/97/8a/"
    "94e741bb1eccd196ed31e98c700f9594a6d439592091867ade1e3e048473/finn-base-0.0.3.tar.gz"
    "#sha256=82c41fad79f33fa3a0bf015f5946d66befa8cd0ba6c6f7169fe15671b8bdf44b"
)
NEEDED = "setuptools==80.10.2 wheel numpy==2.4.6 onnx==1.22.0 onnxruntime==1.31.1 bitstring==3.1.9 toposort==1.10"
FLOWS = ["hls4ml==1.3.0", "da4ml==0.6.0", "cocotb==2.1.0"]
STEPS = {
    "finn-base": [NEEDED.split(), ["--no-deps", "--no-build-isolation", FINN_BASE]],
    "tosa-tools": [["tosa-tools==2026.8.0"]],
    "litert": [["ai-edge-litert==2.3.0", "numpy==2.4.6", "flatbuffers==25.12.19"]],
    "hls4ml": [["hls4ml==1.3.0", "qonnx==1.0.0", "onnx==1.22.0", "numpy==2.4.6"]],
    "flows": [["--constraint", str(ROOT / "constraints.txt"), "--editable", f"{ROOT}[references,rtl]", *FLOWS]],
}
ENVIRONMENT = {"finn-base": {"SETUPTOOLS_SCM_PRETEND_VERSION": "0.0.0"}}


def install(name: str) -> None:
    """Make the environment anew and mark it when it is complete."""
    root = FOLDER / name
    shutil.rmtree(root, ignore_errors=True)
    venv.create(root, with_pip=True)
    pip = [str(root / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    for packages in STEPS[name]:
        subprocess.run([*pip, *packages], check=True, env=os.environ | ENVIRONMENT.get(name, {}))
    (root / ".installed").touch()


def main() -> int:
    """Install what is not there yet; 1 if something can't be had, which breaks nothing else."""
    failed = []
    for name in STEPS:
        if (FOLDER / name / ".installed").is_file():
            continue
        try:
            install(name)
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
