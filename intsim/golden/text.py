"""Hexadecimal files as `$readmemh` reads them (IEEE 1364-2005, 17.2.9): comments, `_`, addresses in order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from intsim.errors import IntsimError
from intsim.golden.words import Bits

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


def lines_of(text: str, path: str) -> Iterator[tuple[int, str]]:
    """Numbers of a file as digits, each with its line.

    Raises:
        IntsimError: what is no number, digits x and z, an address that leaves a gap.
    """
    # a comment keeps its line breaks, so that lines stay counted
    bare = COMMENT.sub(lambda m: "\n" * m[0].count("\n") or " ", text)
    count = 0
    for number, line in enumerate(bare.split("\n"), 1):
        for word in line.split():
            if re.fullmatch("@[0-9a-fA-F]+", word):
                if int(word[1:], 16) != count:
                    raise IntsimError(
                        f"{path}: line {number}: address {word} after {count} numbers; memories with gaps are not read"
                    )
                continue
            digits = word.replace("_", "")
            if re.fullmatch("[0-9a-fA-FxXzZ?]+", digits) and not re.fullmatch("[0-9a-fA-F]+", digits):
                raise IntsimError(
                    f"{path}: line {number}: {word[:40]} holds unknown digits: a register was never written"
                )
            if not re.fullmatch("[0-9a-fA-F]+", digits):
                raise IntsimError(f"{path}: line {number}: {word[:40]!a} is no hexadecimal number")
            count += 1
            yield number, digits


def digits_of(words: Sequence[str], bits: int) -> Bits:
    """Hexadecimal numbers as bits, (numbers, bits), the lowest first; digits above are left out."""
    width = -(-bits // 4)
    text = "".join(word[-width:].rjust(width, "0") for word in words)
    nibbles = np.array([int(c, 16) for c in "0123456789abcdef"], np.uint8)
    codes = np.frombuffer(text.lower().encode(), np.uint8)
    table = np.zeros(256, np.uint8)
    table[np.frombuffer(b"0123456789abcdef", np.uint8)] = nibbles
    each = table[codes].reshape(len(words), width)[:, ::-1]
    four = (each[..., None] >> np.arange(4, dtype=np.uint8)) & np.uint8(1)
    return four.astype(np.uint8).reshape(len(words), 4 * width)[:, :bits]
