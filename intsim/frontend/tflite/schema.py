"""The flatbuffer schema of .tflite files, as the package `tflite` has it; which options each operator has.

Schema: tensorflow/compiler/mlir/lite/schema/schema.fbs (TensorFlow), of which `tflite` holds the generated reader.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from intsim.errors import IntsimError

INSTALL = "reading .tflite files needs the package tflite: pip install 'intsim[tflite]'"

ACTIVATION = "FusedActivationFunction"
WINDOW = ("Padding", "StrideW", "StrideH", ACTIVATION)
OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ADD": ("AddOptions", (ACTIVATION,)),
    "AVERAGE_POOL_2D": ("Pool2DOptions", (*WINDOW, "FilterWidth", "FilterHeight")),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", ACTIVATION)),
    "CONV_2D": ("Conv2DOptions", (*WINDOW, "DilationWFactor", "DilationHFactor")),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        (*WINDOW, "DilationWFactor", "DilationHFactor", "DepthMultiplier"),
    ),
    "FULLY_CONNECTED": ("FullyConnectedOptions", (ACTIVATION, "WeightsFormat", "KeepNumDims")),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "MAX_POOL_2D": ("Pool2DOptions", (*WINDOW, "FilterWidth", "FilterHeight")),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "MUL": ("MulOptions", (ACTIVATION,)),
    "PACK": ("PackOptions", ("Axis", "ValuesCount")),
    "RESHAPE": ("ReshapeOptions", ("NewShapeAsNumpy",)),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", ("AlignCorners", "HalfPixelCenters")),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", ("AlignCorners", "HalfPixelCenters")),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "SPLIT": ("SplitOptions", ("NumSplits",)),
    "SPLIT_V": ("SplitVOptions", ("NumSplits",)),
    "SQUEEZE": ("SqueezeOptions", ("SqueezeDimsAsNumpy",)),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset"),
    ),
    "SUB": ("SubOptions", (ACTIVATION,)),
    "TRANSPOSE_CONV": ("TransposeConvOptions", WINDOW),
}
"""Operators to the table that holds their options, and the fields of it that are read."""
OPTIONAL = {"ADD", "SUB", "MUL", "MEAN", "RESHAPE", "SPLIT", "SPLIT_V", "SQUEEZE", "RESIZE_BILINEAR"} | {
    "RESIZE_NEAREST_NEIGHBOR"
}
"""Operators whose table may be missing: every field is then 0, as the schema has it."""

TYPES: dict[str, np.dtype[Any]] = {
    "FLOAT32": np.dtype(np.float32),
    "INT8": np.dtype(np.int8),
    "UINT8": np.dtype(np.uint8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "BOOL": np.dtype(np.bool_),
}
"""Element types that are read, little endian in the file."""


@cache
def package() -> ModuleType:
    """The package `tflite`; raises IntsimError that says how to get it."""
    try:
        import tflite  # here: nearly 200 modules, which only .tflite files need
    except ImportError as error:
        raise IntsimError(INSTALL) from error
    return tflite


@cache
def names(enumeration: str) -> dict[int, str]:
    """Number to name, of an enumeration of the schema."""
    members: dict[str, Any] = vars(getattr(package(), enumeration))
    return {number: name for name, number in members.items() if isinstance(number, int) and name[0] != "_"}
