import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from intsim.errors import IntsimError
from models.datasets import read_pfm, write_pfm

SHAPES = st.one_of(
    st.tuples(st.integers(1, 5), st.integers(1, 5)), st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("pfm") / "one.pfm"


def _by_hand(image, little_endian):
    """The file's bytes, value by value."""
    rows = image[::-1].reshape(image.shape[0], -1).tolist()
    values = [value for row in rows for value in row]
    kind, scale = "PF" if image.ndim == 3 else "Pf", "-1.0" if little_endian else "1.0"
    header = f"{kind}\n{image.shape[1]} {image.shape[0]}\n{scale}\n".encode()
    return header + struct.pack(f"{'<' if little_endian else '>'}{len(values)}f", *values)


# Any bits: infinities, subnormals, negative zero; a NaN keeps its payload, too.
@given(SHAPES.flatmap(lambda shape: arrays(np.uint32, shape)), st.booleans())
def test_every_float_comes_back_bit_for_bit(path, bits, little_endian):
    write_pfm(path, bits.view(np.float32), little_endian)
    back = read_pfm(path)
    assert back.dtype == np.float32
    assert back.dtype.isnative
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back.view(np.uint32), bits)


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 1), (2, 3, 3)])
def test_files_are_what_the_format_says(path, shape, little_endian):
    image = (np.arange(np.prod(shape), dtype=np.float32) * 0.75 - 2).reshape(shape)
    write_pfm(path, image, little_endian)
    assert path.read_bytes() == _by_hand(image, little_endian)


def test_a_known_file(path):
    """Two rows of one pixel: 2 on top, 1 below, so 1 comes first."""
    path.write_bytes(b"Pf\n1 2\n-1\n\x00\x00\x80\x3f\x00\x00\x00\x40")
    np.testing.assert_array_equal(read_pfm(path), np.array([[2], [1]], np.float32))
    path.write_bytes(b"Pf\n1 2\n1\n\x3f\x80\x00\x00\x40\x00\x00\x00")
    np.testing.assert_array_equal(read_pfm(path), np.array([[2], [1]], np.float32))


@pytest.mark.parametrize("header", ["Pf 1 1 -1\n", "Pf\r\n1 1\r\n-1\r\n", "Pf\n1 1\n-0.003922\n", "Pf\n1\n1\n-1e2 \n"])
def test_other_spellings_of_the_header_and_its_number_change_nothing(path, header):
    path.write_bytes(header.encode() + struct.pack("<f", 7.5))
    assert read_pfm(path).tolist() == [[7.5]]


def test_a_value_that_looks_like_white_space_is_no_header(path):
    path.write_bytes(b"Pf\n1 1\n-1\n" + b"\n\n\r ")
    assert read_pfm(path).tobytes() == b"\n\n\r "


@pytest.mark.parametrize("image", [np.ones((2, 3), np.float32), np.ones((2, 1, 3), np.float32)])
def test_every_truncated_file_is_refused(path, image):
    write_pfm(path, image)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(IntsimError, match=r"one\.pfm: "):
            read_pfm(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(IntsimError, match="fetch the file again"):
        read_pfm(path)


@pytest.mark.parametrize(
    "header",
    [
        b"P5\n1 1\n-1\n",
        b"pf\n1 1\n-1\n",
        b" Pf\n1 1\n-1\n",
        b"Pf\n-1 1\n-1\n",
        b"Pf\n1\n-1\n",
        b"Pf\n1 1\n0\n",
        b"Pf\n1 1\nnan\n",
        b"Pf\n1 1\n-inf\n",
        b"Pf\n1 1\n1.2.3\n",
        b"Pf\n1 1\n1e999\n",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_malformed_headers_are_refused(path, header):
    path.write_bytes(header + struct.pack("<f", 7.5))
    with pytest.raises(IntsimError, match=r"one\.pfm: not a PFM file"):
        read_pfm(path)


def test_no_pixels_are_refused(path):
    for header in (b"Pf\n0 1\n-1\n", b"Pf\n3 0\n-1\n"):
        path.write_bytes(header)
        with pytest.raises(IntsimError, match="0 bytes"):
            read_pfm(path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(IntsimError, match=r"none\.pfm: No such file"):
        read_pfm(tmp_path / "none.pfm")


@pytest.mark.parametrize(
    "image",
    [np.ones((2, 2)), np.ones(4, np.float32), np.ones((2, 2, 4), np.float32), np.ones((0, 2), np.float32)],
)
def test_what_the_format_cannot_hold_is_not_written(tmp_path, image):
    with pytest.raises(IntsimError, match="holds float32"):
        write_pfm(tmp_path / "x.pfm", image)
    assert not (tmp_path / "x.pfm").exists()
