"""The flatbuffer as the evaluator reads it, straight from the schema's package."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.verification.tflite.numbers import fraction

BYTES = {0: "<f4", 2: "<i4", 3: "u1", 4: "<i8", 6: "?", 7: "<i2", 9: "i1"}
"""schema.fbs, TensorType: float32, int32, uint8, int64, bool, int16, int8."""
NIBBLES = 17
"""schema.fbs, TensorType: int4."""
LIMITS = {3: (0, 255), 7: (-(1 << 15), (1 << 15) - 1), 9: (-128, 127)}


class Flat:
    """A tensor of the file: shape, type, quantization and, for a constant, its numbers as int64 or float32."""

    def __init__(self, tensor: Any, buffers: Any) -> None:
        """Read it."""
        self.name = (tensor.Name() or b"").decode()
        self.shape = tuple(tensor.Shape(i) for i in range(tensor.ShapeLength()))
        self.type: int = tensor.Type()
        q = tensor.Quantization()
        count = q.ScaleLength() if q is not None else 0
        self.scales: list[Fraction] = [fraction(q.Scale(i)) for i in range(count)]
        self.zeros: list[int] = [int(q.ZeroPoint(i)) for i in range(q.ZeroPointLength())] if count else []
        self.scale32 = np.float32(q.Scale(0)) if count else np.float32(1)
        held = buffers(tensor.Buffer())
        self.data: NDArray[Any] | None = self._numbers(held) if held.DataLength() else None

    def _numbers(self, held: Any) -> NDArray[Any]:
        raw = bytes(held.DataAsNumpy())
        if self.type == NIBBLES:
            low = [n - 16 if n > 7 else n for byte in raw for n in (byte % 16, byte // 16)]
            return np.array(low[: math.prod(self.shape)], np.int64).reshape(self.shape)
        array = np.frombuffer(raw, BYTES[self.type]).reshape(self.shape)
        return array if self.type == 0 else array.astype(np.int64)

    @property
    def scale(self) -> Fraction:
        """The one scale."""
        if len(self.scales) != 1:
            raise IntsimError(f"tensor {self.name} has {len(self.scales)} scales, not one")
        return self.scales[0]

    @property
    def zero(self) -> int:
        """The one zero point."""
        return self.zeros[0] if self.zeros else 0

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest code."""
        return LIMITS[self.type]

    def scale_of(self, channel: int) -> Fraction:
        """Of one channel of weights."""
        return self.scales[channel] if len(self.scales) > 1 else self.scale

    def zero_of(self, channel: int) -> int:
        """Of one channel of weights."""
        return self.zeros[channel] if len(self.zeros) > 1 else self.zero
