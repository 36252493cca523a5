"""Results in notebooks: the tables of the command line, as HTML."""

from __future__ import annotations

import intsim


class Shown:
    """Base of what the package returns: notebooks ask it for HTML."""

    def _repr_html_(self) -> str:
        """The tables with inline styles."""
        return intsim.html(self)  # which knows of report/, as rooms that make results don't
