"""Files of tensors, each read back by a reader that shares nothing with the writer."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from intsim.errors import IntsimError
from intsim.golden.element import Element
from intsim.golden.formats import Sink

RNG = np.random.default_rng(1)
TYPES = ("s1", "u1", "s4", "u5", "s8", "u8", "s17", "u31", "s32", "u32", "s33", "s64", "u64")


def drawn(name, count):
    """Integers of a type, its ends among them."""
    low, high = Element.named(name).ends
    python = [
        low,
        high,
        *(int(RNG.integers(0, 1 << 32)) << 32 | int(RNG.integers(0, 1 << 32)) for _ in range(count - 2)),
    ]
    values = [v if low <= v <= high else low + (v - low) % (high - low + 1) for v in python]
    return np.array(values, np.uint64 if name == "u64" else np.int64)


def written(tmp_path, name, values, bus=32, row=None, parts=2):
    sink = Sink(tmp_path, "d/t", "t", Element.named(name), values.shape, "t", ("npy", "hex", "words", "c"), bus, row)
    for part in np.split(values, parts):
        sink.append(part)
    sink.close()
    return {k: tmp_path / v for k, v in sink.files.items()}


def numbers(text):
    """The lines of a file for $readmemh, comments left out, as Python integers."""
    return [int(line, 16) for line in re.sub("//.*", "", text).split()]


def signed(pattern, name):
    bits = int(name[1:])
    return pattern - (1 << bits) if name[0] == "s" and pattern >> (bits - 1) else pattern


@pytest.mark.parametrize("name", TYPES)
def test_npy_and_hex(tmp_path, name):
    values = drawn(name, 40)
    files = written(tmp_path, name, values)
    back = np.load(files["npy"])
    assert back.tolist() == values.tolist()
    assert (back.dtype.kind == "u") == (name[0] == "u")
    assert back.dtype.itemsize * 8 == Element.named(name).width
    text = files["hex"].read_text()
    assert [signed(v, name) for v in numbers(text)] == values.tolist()
    digits = -(-int(name[1:]) // 4)
    assert {len(line) for line in text.splitlines()[1:]} == {digits}


@pytest.mark.parametrize("name", ["s4", "u5", "s8", "s17", "s32", "u64"])
@pytest.mark.parametrize("bus", [7, 8, 24, 32, 100, 128])
@pytest.mark.parametrize("row", [None, 5])
def test_words_of_a_bus(tmp_path, name, bus, row):
    values, bits = drawn(name, 40), int(name[1:])
    words = numbers(written(tmp_path, name, values, bus, row)["words"].read_text())
    assert all(w < 1 << bus for w in words)
    back = []
    per, mask = bus // bits, (1 << bits) - 1
    for _ in range(2):  # each part begins a new word
        for _ in range(20 // (row or 20)):
            left = row or 20
            while left:
                if per:
                    word = words.pop(0)
                    back += [word >> (i * bits) & mask for i in range(min(per, left))]
                    assert word >> (min(per, left) * bits) == 0
                    left -= min(per, left)
                else:
                    across = -(-bits // bus)
                    back.append(sum(words.pop(0) << (i * bus) for i in range(across)))
                    left -= 1
    assert not words
    assert [signed(v, name) for v in back] == values.tolist()


def test_long_rows_are_packed_in_parts(tmp_path, monkeypatch):
    """Blocks of what is written at once end with a word, whatever a row's length."""
    from intsim.golden import formats

    values = drawn("s5", 240)
    whole = written(tmp_path / "a", "s5", values, 32, 120)["words"].read_bytes()
    for block in (1, 7, 50, 119, 121):
        monkeypatch.setattr(formats, "BLOCK", block)
        files = written(tmp_path / str(block), "s5", values, 32, 120)
        assert files["words"].read_bytes() == whole
        assert np.load(files["npy"]).tolist() == values.tolist()


@pytest.mark.parametrize("name", ["f32", "f64"])
def test_floats_are_their_bits(tmp_path, name):
    kind = {"f32": np.float32, "f64": np.float64}[name]
    values = np.array([1.5, -0.0, 3.1e-30, 2.0**-126], kind)
    files = written(tmp_path, name, values)
    assert np.load(files["npy"]).tobytes() == values.tobytes()
    assert numbers(files["hex"].read_text()) == values.view(f"u{values.itemsize}").tolist()
    assert ", ".join(f"0x{v:0{values.itemsize * 2}x}" for v in values.view(f"u{values.itemsize}").tolist()) in files[
        "c"
    ].read_text().replace("ULL", "").replace("\n  ", "")


def test_c_headers_compile(tmp_path):
    """All types in one program, which prints them."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    program, wanted = ["#include <stdio.h>", "#include <inttypes.h>"], []
    for name in TYPES:
        values = drawn(name, 40)
        text = written(tmp_path / name, name, values)["c"].read_text()
        (tmp_path / f"{name}.h").write_text(
            re.sub(r"\bt\b(?=\[)", f"t_{name}", text).replace("T_H", f"{name.upper()}_H")
        )
        program.append(f'#include "{name}.h"')
        wanted += values.tolist()
    program.append("int main(void) {")
    for name in TYPES:
        cast, form = ("uint64_t", "PRIu64") if name[0] == "u" else ("int64_t", "PRId64")
        program.append(f'for (int i = 0; i < 40; i++) printf("%" {form} "\\n", ({cast})t_{name}[i]);')
    (tmp_path / "p.c").write_text("\n".join([*program, "return 0; }"]))
    subprocess.run(["cc", "-Wall", "-Werror", "-std=c99", "p.c", "-o", "p"], cwd=tmp_path, check=True)
    out = subprocess.run([tmp_path / "p"], capture_output=True, text=True, check=True).stdout
    assert list(map(int, out.split())) == wanted


def test_what_a_type_does_not_hold_is_never_written(tmp_path):
    sink = Sink(tmp_path, "t", "t", Element.named("s4"), (1,), "t", ("npy",), 32)
    with pytest.raises(IntsimError, match=r"holds 8\.\.8, beyond its type"):
        sink.append(np.array([8]))


@pytest.mark.parametrize("name", ["s0", "u65", "f16", "x8", "s8 ", ""])
def test_types_that_are_none(name):
    with pytest.raises(IntsimError, match="no type of elements"):
        Element.named(name)
