"""Property-test my C kernel: a dot product against the registers of x86-avx2.

`python check_my_kernel.py`, and with `-DNO_SATURATION` a kernel with a mistake. Needs `intsim[test]` and a C compiler.
"""

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

from intsim.testing import CounterexampleError, check_dot_product

SOURCE = Path(__file__).with_name("dot_u8s8.c")


def built(folder, *flags):
    """The kernel as `check_dot_product` calls it: kernel(activation, weight, bias) -> int."""
    library = Path(folder) / "dot_u8s8.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", *flags, str(SOURCE), "-o", str(library)], check=True)
    dot = ctypes.CDLL(str(library)).dot_u8s8
    dot.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32]
    dot.restype = ctypes.c_int32
    return lambda activation, weight, bias: dot(activation.ctypes.data, weight.ctypes.data, len(activation), bias)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        try:
            print(check_dot_product(built(folder, *sys.argv[1:]), "x86-avx2"))
        except CounterexampleError as error:
            sys.exit(str(error))
