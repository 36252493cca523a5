"""The operators that a file may hold: one table of domain, operator and opsets, and why another one is refused.

Everything in this room names an operator by what `meaning` says of it. A node of another domain gets its domain in
front (`my.ops.Relu`), so that no comparison with a name of this table can take it for the operator of that name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import onnx

STANDARD = ("", "ai.onnx")
FINN = ("Im2Col", "MultiThreshold", "XnorPopcountMatMul")
"""What qonnx and FINN make of convolutions, quantizers and binary products."""
HARDWARE = ("MVAU", "MVAU_hls", "MVAU_rtl", "MatrixVectorActivation", "Thresholding")
FINN_LAYERS = ("finn.custom_op.fpgadataflow", "finn.custom_op.fpgadataflow.hls", "finn.custom_op.fpgadataflow.rtl")
QONNX = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "brevitas")
CHANNELS_LAST = ("qonnx.custom_op.channels_last", "finn.custom_op.channels_last")
MICROSOFT = "com.microsoft"
QOPERATORS = (
    *("QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool", "QLinearLeakyRelu"),
    *("QLinearMul", "QLinearReduceMean", "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere"),
)
"""What ONNX Runtime's quantizer writes in its QOperator format beside ONNX's QLinearConv and QLinearMatMul."""


@dataclass(frozen=True)
class Row:
    """One operator: where it runs, and from which standard opset on it is read.

    `integers`: it is lowered. `host`: ONNX's reference implementation runs it before the first quantizer, behind the
    last one, and on constants. `first`: earlier forms mean something else (attributes that say how to broadcast, say).
    """

    integers: bool = False
    host: bool = False
    first: int = 1


def _standard() -> dict[str, Row]:
    both = """
        Abs Add AveragePool BatchNormalization Cast Ceil Celu Clip Concat Constant Conv ConvInteger ConvTranspose
        Cos DepthToSpace DequantizeLinear Div Dropout Einsum Elu Erf Exp Expand Flatten Floor Gather Gelu Gemm
        GlobalAveragePool GlobalMaxPool GroupNormalization HardSigmoid HardSwish HardTanh Identity
        InstanceNormalization IsNaN LayerNormalization LeakyRelu Log MatMul MatMulInteger Max MaxPool Mean Min Mish
        Mul Neg PRelu Pad Pow QLinearConv QLinearMatMul RMSNormalization Reciprocal ReduceMax ReduceMean ReduceMin
        ReduceSum Relu Reshape Resize Round Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign
        SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh ThresholdedRelu Tile Transpose Unsqueeze Upsample Where
    """
    integers = "QuantizeLinear"
    host = """
        Acos Acosh AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention BitShift BitwiseAnd BitwiseNot
        BitwiseOr BitwiseXor BlackmanWindow CastLike CenterCropPad Col2Im Compress ConstantOfShape Cosh CumSum DFT
        DeformConv Det Equal EyeLike GRU GatherElements GatherND Greater GreaterOrEqual GridSample
        HammingWindow HannWindow Hardmax IsInf LRN LSTM Less
        LessOrEqual LogSoftmax LpNormalization LpPool MaxUnpool MeanVarianceNormalization MelWeightMatrix Mod
        NonMaxSuppression NonZero Not OneHot Or RNN Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceProd
        ReduceSumSquare ReverseSequence RoiAlign RotaryEmbedding STFT ScatterElements ScatterND Shrink Sinh Swish Tan
        TopK Trilu Unique Xor
    """
    # before these opsets a form with another meaning: an axis to broadcast along, training as the default, ...
    old = {
        7: "And BatchNormalization Dropout Equal GRU Gemm Greater LSTM Less Or",
        6: "Cast Selu Tile",
        5: "Reshape",
        4: "Concat",
        2: "LpPool Pad Split",
    }
    first = {name: opset for opset, names in old.items() for name in names.split()}
    first |= dict.fromkeys(("PRelu", "Pow", "RNN", "Upsample", "Xor"), 7)
    rows: dict[str, Row] = {}
    for names, where in ((both, (True, True)), (integers, (True, False)), (host, (False, True))):
        rows |= {name: Row(*where, first.get(name, 1)) for name in names.split()}
    return rows


TABLE: dict[tuple[tuple[str, ...], str], Row] = {
    **{(STANDARD, name): row for name, row in _standard().items()},
    **{((MICROSOFT,), name): Row(integers=True) for name in ("QuantizeLinear", "DequantizeLinear", *QOPERATORS)},
    **{(QONNX, name): Row(integers=True) for name in ("Quant", "IntQuant", "BipolarQuant", "Trunc", *FINN)},
    **{(CHANNELS_LAST, name): Row(True, True, 7) for name in ("Conv", "MaxPool", "BatchNormalization")},
}
"""Domains and operator to its row."""

ROWS = {(domain, name): row for (domains, name), row in TABLE.items() for domain in domains}
LOWERED = {name for (_, name), row in ROWS.items() if row.integers}
"""What a handler may be registered for."""

ISLANDS = frozenset({"DynamicQuantizeLinear"})
"""Standard operators that run on the host, and only where float islands are asked for."""
DYNAMIC = "it takes scales from the data (dynamic quantization), so that no integers are fixed"
STATIC = "quantize the activations with calibration instead (onnxruntime.quantization.quantize_static, or Brevitas)"
WEIGHTS = "only its weights are integers, its activations are floats (weight-only quantization)"
BLOCKS = "export without control flow, or fix what it decides on (onnxsim, --constants)"
OPTIMIZED = "give the file as its quantizer wrote it, before ONNX Runtime's optimizer rewrote it"
FOREIGN = "replace it by operators of ONNX, or define it as a function in the file"
RANDOM = "its result is random"
STATES = (
    "no quantizer is inside it, so that its state between steps is no integer; write the cell out with quantizers, or "
    "quantize it as a QuantLSTM of Brevitas"
)
ADVICE = {
    "DynamicQuantizeLinear": f"{DYNAMIC}; {STATIC}, or ask for float islands (--islands), which certify its sums alone",
    **dict.fromkeys(
        (f"com.microsoft.{n}" for n in ("DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")),
        f"{DYNAMIC}; {STATIC}",
    ),
    **dict.fromkeys(
        (f"com.microsoft.{n}" for n in ("MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "GatherBlockQuantized")),
        f"{WEIGHTS}; quantize the activations too",
    ),
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), f"it holds graphs of its own; {BLOCKS}"),
    **dict.fromkeys(
        ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), RANDOM
    ),
    **dict.fromkeys(
        (f"{d}.{n}" for d in (*QONNX, *FINN_LAYERS) for n in HARDWARE),
        "give the network as it was before FINN's conversion to hardware layers",
    ),
    **dict.fromkeys((f"{d}.FloatQuant" for d in QONNX), "it quantizes to floats; quantize to integers (Quant)"),
}  # fmt: skip
"""Beside "is not supported": why, and what to do."""


@lru_cache(4096)
def meaning(domain: str, operator: str, opset: int) -> tuple[str, str]:
    """An operator's name in this room, and why it is not read: "" where it is."""
    row = ROWS.get((domain, operator))
    standard = domain in STANDARD
    name = operator if row is not None or standard else f"{domain}.{operator}"
    if standard and operator != "HardTanh" and (missing := _missing(operator, opset)):
        return f"ai.onnx.{operator}", missing
    if row is None:
        if domain == MICROSOFT and operator.startswith("QLinear"):
            return name, f"{name} is not supported; {OPTIMIZED}"
        advice = ADVICE.get(name, "" if standard else FOREIGN)
        return name, f"{name} is not supported" + (f"; {advice}" if advice else "")
    if standard and opset < row.first:
        return f"ai.onnx.{operator}", (
            f"{operator} as opset {opset} has it is not supported; convert the file to opset {row.first} or later "
            "(onnx.version_converter)"
        )
    return name, ""


def _missing(operator: str, opset: int) -> str:
    """Why a standard operator is not there in an opset; "" if it is."""
    try:
        schema = onnx.defs.get_schema(operator, opset, "")
        # 18 was replaced because of the shape of its scale, and is what exporters of opset 18 to 20 write
        if not schema.deprecated or (operator, schema.since_version) == ("GroupNormalization", 18):
            return ""
        return f"{operator} was taken out of ONNX with opset {schema.since_version}, the file imports opset {opset}"
    except onnx.defs.SchemaError:
        pass
    if (QONNX[0], operator) in ROWS:
        return f"{operator} is no operator of ONNX; QONNX's has the domain {QONNX[0]}"
    versions = _history().get(operator)
    if not versions:
        return f"{operator} is no operator of ONNX"
    return f"{operator} is there from opset {min(versions)} on, the file imports opset {opset}"


def other_arity(operator: str, opset: int, inputs: Sequence[str], outputs: int) -> str:
    """Why a standard operator of the file doesn't take these inputs or make as many outputs; "" if it does.

    ONNX gives no meaning to an input beyond those of the operator, nor to a needed one that is left out.
    """
    try:
        schema = onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return ""
    if not schema.min_input <= len(inputs) <= schema.max_input:
        least = f"{schema.min_input} at least" if schema.max_input > 1 << 20 else f"at most {schema.max_input}"
        needs = f"{schema.min_input}" if schema.min_input == schema.max_input else least
        return f"it has {len(inputs)} inputs, ONNX's {operator} takes {needs}"
    if outputs > schema.max_output:
        return f"it has {outputs} outputs, ONNX's {operator} makes at most {schema.max_output}"
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    lacking = next((f.name for f, n in zip(schema.inputs, inputs, strict=False) if not n and f.option == single), None)
    return "" if lacking is None else f"its input {lacking} is left out, which ONNX's {operator} needs"


@cache
def _history() -> dict[str, list[int]]:
    """Standard operators to the opsets in which they changed."""
    opsets: dict[str, list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            opsets.setdefault(schema.name, []).append(schema.since_version)
    return opsets


def other_mode(name: str, attributes: Mapping[str, Any], outputs: int, opset: int) -> str:
    """Why a node asks its operator for something that is not read; "" if it doesn't."""
    if name == "BatchNormalization":
        if attributes.get("training_mode") or (outputs > 1 and opset < 14):
            return "it is in training mode; export the model for inference"
        if not attributes.get("spatial", 1):
            return "it has a mean for each position (spatial = 0), which is not supported"
    return ""


def on_host(name: str, domain: str) -> bool:
    """Whether ONNX's reference implementation runs it; its domain as `Operation` has it."""
    return ROWS.get((domain, name), Row()).host or (domain == "" and name in ISLANDS)
