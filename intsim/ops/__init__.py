"""Operators of the integer graph. `OPS` maps an op name to its definition."""

from intsim.ops.affine import Affine
from intsim.ops.conv import Conv
from intsim.ops.conv_transpose import ConvTranspose
from intsim.ops.function import Function
from intsim.ops.fused import Fused
from intsim.ops.grid import Grid
from intsim.ops.interpolate import Interpolate
from intsim.ops.layer_norm import LayerNorm
from intsim.ops.lookup import Lookup
from intsim.ops.mac import Mac, Panel
from intsim.ops.matmul import Matmul
from intsim.ops.movement import Concat, Gather, Pad, Reshape, Transpose
from intsim.ops.mul import Mul
from intsim.ops.op import Op
from intsim.ops.pool import MaxPool, SumPool
from intsim.ops.reduce_sum import ReduceSum
from intsim.ops.requantize import Requantize
from intsim.ops.rms_norm import RmsNorm
from intsim.ops.softmax import Softmax
from intsim.ops.staircase import Staircase
from intsim.ops.table import Table
from intsim.ops.zero_point import ZeroPoint

OPS: dict[str, Op] = {
    op.name: op
    for op in (
        Affine(),
        Concat(),
        Conv(),
        ConvTranspose(),
        Function(),
        Fused(),
        Gather(),
        Grid(),
        Interpolate(),
        LayerNorm(),
        Lookup(),
        Matmul(),
        MaxPool(),
        Mul(),
        Pad(),
        ReduceSum(),
        Requantize(),
        Reshape(),
        RmsNorm(),
        Softmax(),
        Staircase(),
        SumPool(),
        Table(),
        Transpose(),
        ZeroPoint(),
    )
}

LAYER_ENDS = frozenset({"requantize", "staircase", "table"})
"""Operators whose results are the codes of a quantizer."""

__all__ = ["LAYER_ENDS", "OPS", "Mac", "Op", "Panel"]
