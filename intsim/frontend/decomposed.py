"""Normalisations written out in other nodes, as exporters write them for older opsets.

```
m = ReduceMean(x)   d = Sub(x, m)   v = ReduceMean(Pow(d, 2) or Mul(d, d))   r = Sqrt(Add(v, epsilon))   y = Div(d, r)
```

or `Mul(d, 1 / r)`: a LayerNormalization; with d = x an RMSNormalization. The factor and the bias that follow are
elementwise constants like any others. And PyTorch's GroupNorm as

```
g = Reshape(x, [0, groups, -1])   n = InstanceNormalization(g)   y = Reshape(n, shape of x)
```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from intsim.frontend.expression import Const, Value
from intsim.frontend.reader import Operation, SourceModel

Rewritten = dict[Operation, Operation | None]


def norms(model: SourceModel, values: Mapping[str, Value], live: set[Operation]) -> Rewritten:
    """What stands for some nodes: a normalisation for the last of each pattern, None for the others.

    Only where the last node is in `live` (integers depend on it) and nobody else reads what lies between.
    """
    finder = _Finder(model, values)
    rewritten: Rewritten = {}
    for op in model.operations:
        if op in live and op.op in ("Div", "Mul"):
            rewritten |= finder.ending_in(op)
        elif op in live and op.op == "InstanceNormalization":
            rewritten |= finder.of_groups(op)
    return rewritten


class _Finder:
    """Patterns in one model."""

    def __init__(self, model: SourceModel, values: Mapping[str, Value]) -> None:
        self.values, self.model = values, model
        self.makers = {o: op for o, op in model.makers.items() if o and op.domain == ""}

    def ending_in(self, op: Operation) -> Rewritten:
        """The pattern that ends in a Div or Mul; empty if it doesn't."""
        for moved, total, between in self._quotients(op):
            pattern = self._inside(moved, total)
            if pattern is None:
                continue
            x, axes, epsilon, needed, shared = pattern
            inside = {*between, *needed}
            every = {op, *inside, *shared}
            if not all(self._private(o, every) for o in inside):
                continue
            # the difference and its mean stay where somebody else reads them
            private = shared if all(self._private(o, every) for o in shared) else set()
            attributes = {"axes": axes, "epsilon": epsilon}
            name = "LayerNormalization" if shared else "RMSNormalization"
            whole = replace(op, op=name, inputs=(x,), attributes=attributes)
            return {**dict.fromkeys((*inside, *private)), op: whole}
        return {}

    def of_groups(self, op: Operation) -> Rewritten:
        """GroupNormalization, where a Reshape in front of an InstanceNormalization is taken back behind it."""
        before = self.makers.get(op.inputs[0])
        readers = self.model.readers.get(op.outputs[0], [])
        if before is None or before.op != "Reshape" or len(readers) != 1 or readers[0].op != "Reshape":
            return {}
        behind = readers[0]
        wanted = [self._whole_numbers(r.inputs[1]) for r in (before, behind) if len(r.inputs) == 2]
        if not all(self._private(o, {op, before, behind}) for o in (before, op)) or len(wanted) != 2:
            return {}
        inner, outer = wanted
        if inner is None or len(inner) != 3 or inner[0] not in (0, 1) or inner[1] < 1 or inner[2] != -1:
            return {}
        back = self.makers.get(behind.inputs[1])
        shaped = back is not None and back.op == "Shape" and back.inputs[0] == before.inputs[0] and not back.attributes
        if not shaped and (not outer or outer[0] < 0 or min(outer[1:], default=1) < 1):
            return {}
        given = [] if shaped or outer is None else outer
        attributes = {**op.attributes, "num_groups": inner[1], "by_group": True, "batch": inner[0], "shape": given}
        whole = replace(
            op, op="GroupNormalization", inputs=(before.inputs[0], *op.inputs[1:]), outputs=behind.outputs,
            attributes=attributes,
        )  # fmt: skip
        return {before: None, op: None, behind: whole}

    def _whole_numbers(self, name: str) -> list[int] | None:
        """A constant of integers."""
        value = self.values.get(name)
        return value.array.reshape(-1).tolist() if isinstance(value, Const) and value.array.dtype.kind == "i" else None

    def _private(self, op: Operation, inside: set[Operation]) -> bool:
        """Whether only nodes of `inside` read an operation."""
        return all(inside.issuperset(self.model.readers.get(o, ())) and o not in self.model.outputs for o in op.outputs)

    def _quotients(self, op: Operation) -> Iterator[tuple[str, str, list[Operation]]]:
        """(d, v + epsilon, nodes between) of `d / sqrt(v + epsilon)`."""
        if len(op.inputs) != 2:
            return
        ways = [(op.inputs[0], op.inputs[1])] if op.op == "Div" else [op.inputs, op.inputs[::-1]]
        for moved, other in ways:
            maker = self.makers.get(other)
            between = []
            inverse = op.op == "Mul"
            if inverse and maker is not None and (maker.op == "Reciprocal" or self._one_over(maker)):
                between, inverse = [maker], False
                maker = self.makers.get(maker.inputs[-1])
            if maker is None:
                continue
            power = self._number(maker.inputs[1]) if maker.op == "Pow" and len(maker.inputs) == 2 else None
            root = Fraction(1, 2) if maker.op == "Sqrt" else power
            if root == (Fraction(-1, 2) if inverse else Fraction(1, 2)):
                yield moved, maker.inputs[0], [*between, maker]

    def _one_over(self, op: Operation) -> bool:
        return op.op == "Div" and len(op.inputs) == 2 and self._number(op.inputs[0]) == 1

    def _inside(
        self, moved: str, total: str
    ) -> tuple[str, list[int], Fraction, list[Operation], set[Operation]] | None:
        """(x, axes, epsilon, nodes of the variance, nodes of d) where `moved` and `total` are d and v + epsilon."""
        addition = self.makers.get(total)
        if addition is None or addition.op != "Add" or len(addition.inputs) != 2:
            return None
        numbers = [self._number(n) for n in addition.inputs]
        if (numbers[0] is None) == (numbers[1] is None):
            return None
        epsilon, variance = (numbers[0], addition.inputs[1]) if numbers[1] is None else (numbers[1], addition.inputs[0])
        mean = self._mean(variance)
        square = None if mean is None else self.makers.get(mean[0].inputs[0])
        squared = None if square is None else self._squared(square)
        if mean is None or square is None or squared is None or epsilon is None:
            return None
        if squared == moved and self._centred(moved, mean[1]) is None:
            return moved, mean[1], epsilon, [addition, mean[0], square], set()
        first, second = (self._centred(name, mean[1]) for name in (moved, squared))
        if first is None or second is None or first[0].inputs[0] != second[0].inputs[0]:
            return None
        return first[0].inputs[0], mean[1], epsilon, [addition, mean[0], square], {*first, *second}

    def _centred(self, name: str, axes: list[int]) -> tuple[Operation, Operation] | None:
        """The Sub that makes a tensor as another one less its mean over `axes`, and the mean."""
        op = self.makers.get(name)
        mean = self._mean(op.inputs[1]) if op is not None and op.op == "Sub" and len(op.inputs) == 2 else None
        if op is None or mean is None or mean[1] != axes or mean[0].inputs[0] != op.inputs[0]:
            return None
        return op, mean[0]

    def _mean(self, name: str) -> tuple[Operation, list[int]] | None:
        """A ReduceMean that keeps its axes, and these."""
        op = self.makers.get(name)
        if op is None or op.op != "ReduceMean" or not op.attributes.get("keepdims", 1):
            return None
        axes = op.attributes.get("axes")
        if axes is None and len(op.inputs) > 1:
            value = self.values.get(op.inputs[1])
            axes = value.array.reshape(-1).tolist() if isinstance(value, Const) else None
        return (op, sorted(int(a) for a in axes)) if axes else None

    def _squared(self, op: Operation) -> str | None:
        """What an operation squares."""
        if len(op.inputs) != 2:
            return None
        square = op.op == "Pow" and self._number(op.inputs[1]) == 2
        return op.inputs[0] if square or (op.op == "Mul" and op.inputs[0] == op.inputs[1]) else None

    def _number(self, name: str) -> Fraction | None:
        """The one value of a constant."""
        value = self.values.get(name)
        if not isinstance(value, Const) or value.array.size != 1 or value.array.dtype.kind not in "fiu":
            return None
        number = float(value.array.reshape(-1)[0])
        return Fraction(number) if number - number == 0 else None
