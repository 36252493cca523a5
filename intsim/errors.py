"""The one exception a user of intsim has to know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class IntsimError(ValueError):
    """Bad input: a file, a node, a target, an array or an option that intsim can't accept.

    The message is one line that names the file or node and says what to do; the command line prints it and
    leaves with exit code 2.
    """


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Failures of the file system as one line that names `path`."""
    try:
        yield
    except IntsimError:
        raise
    except (OSError, ValueError) as error:
        raise IntsimError(f"{path}: can't be written: {getattr(error, 'strerror', None) or error}") from error
