"""What every operator of the integer graph answers: shape, exact definition, value range."""

from __future__ import annotations

from typing import ClassVar

from intsim.graph import IntArray, Node, Tensor

Shape = tuple[int, ...]
Range = tuple[int, int]


class Op:
    """One operator. Instances hold no state; `node` carries attributes and constants."""

    name: ClassVar[str]

    def shape(self, node: Node, *shapes: Shape) -> Shape:
        """Output shape from input shapes."""
        raise NotImplementedError

    def evaluate(self, node: Node, *arrays: IntArray) -> IntArray:
        """Exact integer definition: int64 arrays in, int64 array out."""
        raise NotImplementedError

    def value_range(self, node: Node, *tensors: Tensor) -> Range:
        """Inclusive bounds of every output element, given the inputs' ranges."""
        raise NotImplementedError
