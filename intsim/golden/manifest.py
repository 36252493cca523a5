"""The manifest of a folder of vectors, and its tensors read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import intsim
from intsim.golden.folder import MANIFEST


def sealed(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Write a manifest, with the version that wrote it."""
    format_, *rest = content.items()
    full = dict([format_, ("intsim", intsim.__version__), *rest])
    (folder / MANIFEST).write_text(json.dumps(full, indent=1) + "\n")
    return full
