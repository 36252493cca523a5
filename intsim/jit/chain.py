"""Compiled kernels with known arguments, one after another in one call from Python.

A call from Python takes two microseconds where arguments are a dozen arrays, more than many kernels do. Here arguments
lie in memory as Numba's calling convention passes them (numba.core.datamodel.packer.ArgPacker flattens them), laid out
once; a compiled loop hands them on. Where Numba is made differently inside, kernels are called from Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.core.types.abstract import Type

from intsim.jit.compile import compiled
from intsim.jit.constants import Constants, ConstantsType
from intsim.jit.emit import I32, I64, element, emitted, number

BYTE = ir.IntType(8)
POINTER = BYTE.as_pointer()
PASSED = {"q": I64, "i": I32, "h": ir.IntType(16), "b": BYTE, "d": ir.DoubleType(), "f": ir.FloatType()}
"""What a kernel takes by its letter; an address is an integer of 64 bits."""
ALREADY = 2
"""Slots of a record before the arguments: the kernel's address, and what it returned."""


class Call(NamedTuple):
    """A compiled kernel and all of its arguments."""

    kernel: Callable[..., Any]
    arguments: tuple[Any, ...]

    def run(self) -> None:
        """Call it from Python."""
        self.kernel(*self.arguments)


@dataclass(frozen=True)
class Letters(Constants):
    """How a kernel takes its arguments: letters of `PASSED`, one a slot of 8 bytes."""

    passed: str


def _entered(b: Any, function: Any, arguments: Sequence[Any]) -> Any:
    """What Numba's calling convention returns of a function at an address: 0, or that it raised."""
    result, raised = POINTER.as_pointer(), POINTER.as_pointer().as_pointer()
    kind = ir.FunctionType(I32, [result, raised, *(a.type for a in arguments)])
    with b.goto_entry_block():
        made, error = b.alloca(POINTER), b.alloca(POINTER.as_pointer())
    return b.call(b.inttoptr(function, kind.as_pointer()), [made, error, *arguments])


@emitted
def _handed_on(b, record, letters):  # type: ignore[no-untyped-def]
    """Call the kernel of a record, at this address, with its arguments."""
    slots = b.inttoptr(record, I64.as_pointer())
    given = []
    for index, letter in enumerate(letters.passed):
        place = b.gep(slots, [number(ALREADY + index)])
        given.append(b.load(b.bitcast(place, PASSED[letter].as_pointer())))
    state = _entered(b, element(b, slots, number(0)), given)
    b.store(b.sext(state, I64), b.gep(slots, [number(1)]))


@compiled
def hand_on(record, letters):  # type: ignore[no-untyped-def]
    """Compiled for `Letters`, the function that a chain calls with a record's address."""
    _handed_on(record, letters)


@emitted
def _called(b, function, record, state):  # type: ignore[no-untyped-def]
    """Call a `hand_on`; state[0] is then what the kernel returned."""
    _entered(b, function, [record, ir.Constant(POINTER, None)])
    b.store(element(b, b.inttoptr(record, I64.as_pointer()), number(1)), state.data)


@compiled
def _run(functions, records, begin):  # type: ignore[no-untyped-def]
    """Call them from `begin` on; which one raised, else how many there are."""
    state = np.zeros(1, np.int64)
    for index in range(begin, functions.size):
        _called(functions[index], records[index], state)
        if state[0] != 0:
            return index
    return functions.size


class Chain:
    """Calls of compiled kernels, made ready; their arguments' arrays are kept."""

    def __init__(self, calls: Sequence[Call]) -> None:
        """Compile, or read from disk, each kernel for its arguments.

        Raises AttributeError, KeyError or TypeError where kernels aren't compiled or Numba is made differently.
        """
        self.calls = tuple(calls)
        made = [_record(call) for call in self.calls]
        self.kept = [record for _, record in made]
        self.functions = np.array([function for function, _ in made], np.int64)
        self.records = np.array([record.ctypes.data for record in self.kept], np.int64)

    def run(self) -> None:
        """Call them all. A kernel that raised is called from Python, where its exception is."""
        at = 0
        while (at := _run(self.functions, self.records, at)) < len(self.calls):
            self.calls[at].run()
            at += 1


def _record(call: Call) -> tuple[int, np.ndarray]:
    """The address of a `hand_on`, and the record for it."""
    kernel: Any = call.kernel
    signature = tuple(kernel.typeof_pyval(a) for a in call.arguments)
    slots = [s for kind, value in zip(signature, call.arguments, strict=True) for s in _slots(kind, value)]
    passed = "".join(map(_letter, cpu_target.target_context.get_arg_packer(signature).argument_types))
    if len(passed) != len(slots) or any(
        (a in "df") != isinstance(b, float) for a, b in zip(passed, slots, strict=True)
    ):
        raise TypeError("arguments are passed otherwise")
    record = np.zeros(ALREADY + len(slots), np.int64)
    record[0] = _address(kernel, signature)
    for index, (letter, value) in enumerate(zip(passed, slots, strict=True), ALREADY):
        record[index : index + 1].view({"d": np.float64, "f": np.float32}.get(letter, np.int64))[0] = value
    return _address(hand_on, (types.int64, Letters(passed)._numba_type_)), record


def _address(kernel: Any, signature: tuple[Any, ...]) -> int:
    """Of the machine code for arguments of these types, by Numba's calling convention."""
    if signature not in kernel.overloads:
        kernel.compile(signature)
    made = kernel.overloads[signature]
    if made.signature.return_type != types.none:
        raise TypeError("a kernel of a chain returns nothing")
    return int(made.library.get_pointer_to_function(made.fndesc.llvm_func_name))


def _letter(kind: Any) -> str:
    """Of `PASSED`; KeyError for what isn't passed in such ways."""
    if isinstance(kind, ir.PointerType):
        return "q"
    return {str(known): letter for letter, known in PASSED.items()}[str(kind)]


def _slots(kind: Type, value: Any) -> Iterator[int | float]:
    """An argument's parts as numbers. An array comes without its owner, so that nobody counts references to it."""
    if isinstance(kind, types.Array):
        yield from (0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides)
    elif isinstance(kind, types.BaseTuple):
        for inner, part in zip(kind.types, value, strict=True):
            yield from _slots(inner, part)
    elif isinstance(kind, ConstantsType):
        yield 0
    elif isinstance(kind, types.Float):
        yield float(value)
    elif isinstance(kind, types.Integer | types.Boolean):
        yield int(value) - ((int(value) >> 63) << 64 if int(value) > 0 else 0)
    else:
        raise TypeError(f"{kind} is passed otherwise")
