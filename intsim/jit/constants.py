"""Constants of compiled code as arguments of it: numbers and words that the type of an argument says.

A kernel is compiled for the types of its arguments. Those of a `Constants` object hold its fields, so code is made, and
kept on disk, for each combination of values by itself. Compiled functions read integer fields as attributes; what emits
LLVM code reads any field of the argument's type.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from typing import Any

from numba import types
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import NativeValue, models, register_model, unbox


class Constants:
    """Base of frozen dataclasses whose fields are constants of the code that takes them."""

    @cached_property
    def _numba_type_(self) -> ConstantsType:
        return ConstantsType(self)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: the type holds the object in turn."""
        return {name: value for name, value in vars(self).items() if name != "_numba_type_"}


class ConstantsType(types.Type):
    """The type of one `Constants` object, `value`."""

    def __init__(self, value: Any) -> None:
        """Equal objects have equal types."""
        self.value = value
        super().__init__(name=f"{type(value).__module__}.{value!r}")


register_model(ConstantsType)(models.OpaqueModel)


@unbox(ConstantsType)
def _unbox(typ: Any, value: Any, c: Any) -> Any:
    return NativeValue(c.context.get_dummy_value())


@infer_getattr
class _Fields(AttributeTemplate):
    key = ConstantsType

    def generic_resolve(self, typ: Any, name: str) -> Any:
        known = {field.name for field in fields(typ.value)}
        return types.intp if name in known and isinstance(getattr(typ.value, name), int) else None


@lower_getattr_generic(ConstantsType)
def _field(context: Any, builder: Any, typ: Any, value: Any, name: str) -> Any:
    return context.get_constant(types.intp, int(getattr(typ.value, name)))  # a bool too
