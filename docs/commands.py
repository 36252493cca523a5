"""Hook of MkDocs: the page cli.md gets what typer itself writes of the command line."""

import subprocess
import sys

MARK = "<!-- help of every command -->"


def on_page_markdown(markdown, **_):
    """Put the help in the mark's place, one heading level lower, without the title."""
    if MARK not in markdown:
        return markdown
    command = [sys.executable, "-m", "typer", "intsim.cli", "utils", "docs", "--name", "intsim"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return markdown.replace(MARK, text[text.index("**Usage**") :])
