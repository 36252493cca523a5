"""Second opinions: executors of other projects on the same nodes, judged by exact rational arithmetic.

qonnx is a dependency. finn-base and the TOSA reference model are not: `make oracles` installs each into a folder of its
own under out/oracles, and without them their tests are skipped. The `drive_*.py` files run in those folders' Python.
"""

from .installed import available

__all__ = ["available"]
