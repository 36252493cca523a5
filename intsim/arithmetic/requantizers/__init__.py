"""Requantizer schemes, one file each: from an accumulator back to a few bits, defined in exact integers.

`Requantizer` says what a scheme is asked. A file in this folder is a built-in scheme. A scheme of your own is a
class in an installed package that names it among its entry points, by the scheme's name:

    [project.entry-points."intsim.requantizers"]
    my-scheme = "my_package.my_module:MyScheme"
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from intsim.arithmetic.keys import shown
from intsim.arithmetic.requantizers.fixed_point import FixedPoint
from intsim.arithmetic.requantizers.requantizer import Channel, Requantizer, schemes
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError

__all__ = [
    "GROUP",
    "Channel",
    "Requantizer",
    "built_in",
    "is_built_in",
    "named",
    "names",
    "of_width",
    "read_requantizer",
]

KERNELS = "; in rules also kernels of other operators (docs/requantizers.md)"
GROUP = "intsim.requantizers"
"""The entry points of packages that bring schemes."""


@cache
def built_in() -> dict[str, type[Requantizer]]:
    """The schemes of this folder by name, sorted."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return {c.scheme: c for c in schemes() if c.__module__.rpartition(".")[0] == __name__}


def is_built_in(requantizer: Requantizer) -> bool:
    """Whether its class is in this folder, so that what it says of itself is tested here."""
    return type(requantizer) in built_in().values()


def names() -> tuple[str, ...]:
    """Every scheme there is: the built-in ones, and those of installed packages, which aren't loaded for it."""
    return (*built_in(), *sorted({e.name for e in entry_points(group=GROUP)} - set(built_in())))


@cache
def named(scheme: str) -> type[Requantizer]:
    """The class of a scheme, a built-in one before others.

    Raises:
        IntsimError: no such scheme, or a package's that can't be loaded or is none.
    """
    if scheme in built_in():
        return built_in()[scheme]
    points = tuple(entry_points(group=GROUP, name=scheme))
    if not points:
        raise IntsimError(f"scheme is {shown(scheme)}; allowed: {_allowed()}")
    try:
        chosen = points[0].load()
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise IntsimError(f'scheme "{scheme}": can\'t load {points[0].value}, its entry point: {said}') from None
    if not (isinstance(chosen, type) and issubclass(chosen, Requantizer) and chosen.scheme == scheme):
        raise IntsimError(
            f'scheme "{scheme}": {points[0].value}, its entry point, is no subclass of Requantizer '
            "with that name as its `scheme`"
        )
    if chosen.exact:
        raise IntsimError(f'scheme "{scheme}": {points[0].value} says that it is exact; only built-in schemes are')
    return chosen


def read_requantizer(content: Any) -> Requantizer:
    """The requantizer of a target file's table `[requantize]`.

    Raises:
        IntsimError: one line that begins with the key, "requantize.".
    """
    if isinstance(content, Requantizer):
        return content
    if not isinstance(content, dict):
        raise IntsimError(f"requantize is {shown(content)}; allowed: a table")
    if "scheme" not in content:
        raise IntsimError(f"requantize.scheme is missing; allowed: {_allowed()}")
    scheme, keys = content["scheme"], {k: v for k, v in content.items() if k != "scheme"}
    if not isinstance(scheme, str):
        raise IntsimError(f"requantize.scheme is {shown(scheme)}; allowed: {_allowed()}")
    try:
        return named(scheme).read(keys)
    except IntsimError as error:
        text = str(error)
        raise IntsimError(text if text.startswith(("unknown key", "requantize.")) else f"requantize.{text}") from None


def of_width(chosen: Requantizer, bits: int) -> Requantizer:
    """With a multiplier of that width; a requantizer whose width isn't searched becomes fixed-point, `half_up`."""
    return chosen.with_width(bits) or FixedPoint(bits, Rounding.HALF_UP)


def _allowed() -> str:
    """Schemes of accumulators; those of other operators, which rules name, are on a page."""
    kernels = {name for name, c in built_in().items() if c.operators and "conv" not in c.operators}
    return ", ".join(f'"{name}"' for name in names() if name not in kernels) + KERNELS
