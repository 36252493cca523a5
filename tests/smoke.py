"""Every verb once, on the intsim that is installed for the Python that runs this file: `PYTHON tests/smoke.py`.

For packages: a wheel with the oldest and the newest versions of what it depends on. Ends with 1 if anything fails.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import intsim

ROOT = Path(__file__).resolve().parents[1]
MODEL = str(ROOT / "examples" / "digits.onnx")
VERBS = [
    (0, "--version"),
    (0, "targets"),
    (0, "targets", "x86-avx2"),
    (0, "inspect", MODEL),
    (0, "lower", MODEL, "-o", "lowered"),
    (0, "run", MODEL, "-o", "out.npz", "--profile"),
    (1, "run", MODEL, "-t", "saturate-12"),
    (0, "verify", MODEL),
    (1, "verify", MODEL, "-t", "saturate-12"),
    (1, "bounds", MODEL, "-t", "x86-avx2"),
    (0, "certify", MODEL, "-t", "x86-vnni", "-o", "certificate.json"),
    (0, "certify", "--check", "certificate.json", MODEL),
    (1, "telemetry", MODEL, "-t", "wrap-12", "--junit", "cases.xml"),
    (0, "report", "certificate.json", "--markdown", "summary.md"),
    (0, "sweep", MODEL, "-a", "16:20", "-m", "8,16", "-o", "sweep"),
    (0, "vectors", MODEL, "-t", "x86-avx2", "-o", "vectors", "--layer", "/conv1/Conv"),
    (0, "compare", "vectors", "vectors/00_conv1_Conv/output.npy"),
    (3, "identify", "vectors", "vectors/00_conv1_Conv/output.npy", "--next", "2", "next.npz"),
    (0, "vectors", MODEL, "-t", "x86-avx2", "-o", "probes", "--layer", "/conv1/Conv", "--operands", "next.npz"),
    (0, "emit", "mac", "-t", "wrap-16", "-n", "10", "-o", "mac"),
    (2, "run", "nowhere.onnx"),
]


def main() -> int:
    """Run all; how many failed is the exit code's business."""
    home = Path(intsim.__file__).resolve()
    print(f"intsim {intsim.__version__} from {home.parent}, Python {sys.version.split()[0]}")
    if home.is_relative_to(ROOT / "intsim"):
        print("that is the checkout, not an installation")
        return 1
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for code, *arguments in VERBS:
            command = [sys.executable, "-m", "intsim.cli", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
            right = done.returncode == code and "internal error" not in done.stderr
            failed += not right
            print("ok  " if right else f"FAIL ({done.returncode})", *arguments)
            if not right:
                print(done.stdout[-2000:], done.stderr[-2000:])
    print(f"{len(VERBS) - failed} passed, {failed} failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
