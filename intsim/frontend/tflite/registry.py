"""Which function translates which operator of a .tflite file; each writes the nodes of `Network.at`."""

from __future__ import annotations

from collections.abc import Callable

from intsim.frontend.tflite.network import Network

Translate = Callable[[Network], None]

TRANSLATES: dict[str, Translate] = {}


def translates(*kinds: str) -> Callable[[Translate], Translate]:
    """Register a function for operators, by the schema's names."""

    def register(function: Translate) -> Translate:
        TRANSLATES.update(dict.fromkeys(kinds, function))
        return function

    return register
