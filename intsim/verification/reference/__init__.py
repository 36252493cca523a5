"""The reference evaluator: what "exact" means for a quantized ONNX graph. See `evaluator`."""

from intsim.verification.reference.evaluator import Reference
from intsim.verification.reference.run import ReferenceRun

__all__ = ["Reference", "ReferenceRun"]
