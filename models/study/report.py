"""The study's page, from its results files alone: ``python -m models.study report``."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from intsim.errors import IntsimError
from models.study import facts, sections
from models.study.ideal import channel_table
from models.study.plots import draw
from models.study.records import Records, read
from models.study.summary import summary
from models.study.text import HEAD, WHY

SECTIONS: tuple[tuple[str, Callable[[Records], str], str], ...] = (
    ("In short", summary, ""),
    ("Accuracy, in the form of the paper's Table 1", sections.main_table, ""),
    ("Quantization error", sections.error_table, "ratio"),
    ("Feature noise", sections.noise_table, "noise"),
    ("Targets: where the gain breaks", sections.target_table, "targets"),
    ("Remedies: decoders, guides and losses", sections.decoder_table, "decoders"),
    ("Longer training on plain scenes", sections.longer_table, ""),
    ("Why mean and RMSE don't follow the robust SD", lambda records: WHY, ""),
    ("The ideal channel: insets, rounded turns, dimensions", lambda records: channel_table(), ""),
    ("Other widths and weights", sections.scheme_table, "schemes"),
    ("First layer", sections.input_table, ""),
    ("Cost", facts.cost_table, ""),
    ("Real pairs", sections.real_table, ""),
    ("DPT: accuracy", partial(sections.main_table, family="dpt"), ""),
    ("DPT: quantization error", partial(sections.error_table, family="dpt"), ""),
    ("Error by layer", facts.layer_table, ""),
    ("Other tasks", facts.demo_tables, ""),
    ("Trainings", facts.training_table, ""),
)
"""Heading, what makes its text, and the plot below it."""


def write(results_folder: Path, page_path: Path, image_folder: Path) -> Path:
    """Write the page and its plots, ``study_*.png``; return the page's path. Sections without data are left out.

    Raises:
        IntsimError: there are no results, or a file is not as it should be (see `models.study.records.read`).
    """
    records = read(Path(results_folder))
    try:
        plots = draw(records, Path(image_folder))
    except ImportError:
        raise IntsimError('the study\'s plots need matplotlib: pip install "intsim[report]"') from None
    text = page(records, {name: os.path.relpath(path, Path(page_path).parent) for name, path in plots.items()})
    Path(page_path).write_text(text)
    return Path(page_path)


def page(records: Records, images: dict[str, str]) -> str:
    """The page's text; `images` are links by plot."""
    parts = [HEAD]
    for title, section, plot in SECTIONS:
        if body := section(records):
            parts += [f"## {title}", body]
            parts += [f"![{title}]({images[plot]})", CAPTIONS[plot]] if plot in images else []
    return "\n\n".join(parts) + "\n"


CAPTIONS = {
    "ratio": "Quantization error of the plain network over that of each curve, W8A8, exact, nearest point; bars span "
    "the seeds. Dotted and dash-dotted: the bar for robust SD, and for mean and RMSE.",
    "noise": "Quantization error by order without and with feature noise, W8A8, exact; bars span the seeds.",
    "targets": "RMSE of the quantization error by target; lines span the seeds.",
    "decoders": "Quantization error by decoder, W8A8, exact; lines span the seeds. masked: trusted pixels only.",
    "schemes": "End-point error of quantized networks by scheme, exact; lines span the seeds.",
}
