"""The reference evaluator: what "exact" means for a quantized ONNX graph. See `evaluator`."""

from intsim.verify.reference.evaluator import Reference
from intsim.verify.reference.run import ReferenceRun

__all__ = ["Reference", "ReferenceRun"]
