"""What a .tflite file holds, evaluated a second time on the flatbuffer, against the integers that `exact` makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.frontend.names import SOURCE_FILE
from intsim.frontend.tflite import MAGIC
from intsim.graph import IntArray, Tensor
from intsim.model import Model, Run
from intsim.verification.compare import difference, place
from intsim.verification.tflite import Reading
from intsim.verification.verdict import FileVerdict

NEAR_TIE = 1
"""LSB by which the integers of a Softmax, whose proven error may leave a code open, may differ from the exact code."""


@dataclass
class SecondReading:
    """A model of a .tflite file, with that file read again; `of` gives None for other models."""

    reading: Reading
    codes: dict[int, list[str | None]]
    verdict: FileVerdict = field(default_factory=FileVerdict)

    @classmethod
    def of(cls, model: Model) -> SecondReading | None:
        """Read the model's file again; raises IntsimError if it has changed since it was loaded."""
        held = [p.value for p in model.lowered.source.proto.metadata_props if p.key == SOURCE_FILE]
        if not held:
            return None
        source = json.loads(held[0])
        try:
            data = Path(model.path).read_bytes() if model.path != "<model>" else b""
        except OSError as error:
            raise IntsimError(f"{model.path}: can't be read a second time: {error.strerror}") from error
        if data[4:8] != MAGIC:
            return None  # the ONNX form of such a file, stored or in memory, is a file of its own
        if hashlib.sha256(data).hexdigest() != source["sha256"]:
            raise IntsimError(f"{model.path}: has changed since it was loaded; load it again")
        return cls(Reading(data), {int(i): names for i, names in source["codes"].items()})

    def compare(self, model: Model, sample: Mapping[str, NDArray[Any]], exact: Run, open_: set[str]) -> Any:
        """Add one sample; returns where the first code differs, in the form of `first_divergence`, or None.

        `open_` are the tensors behind a row function, whose codes its proven error may leave open.
        """
        fault: dict[str, Any] | None = None
        made = {n: model.graph.tensors[t] for n, t in model.lowered.codes.items()}
        steps = self.reading.steps([np.asarray(sample[n]) for n in model.lowered.source.inputs])
        answer: IntArray | None = None
        while True:
            try:
                position, number, codes = steps.send(answer)
            except StopIteration:
                return fault
            answer = None
            tensor, own = self._own(number, made, exact)
            if tensor is None or own is None:
                continue
            count, lsb = difference(codes, own)
            self.verdict.tensors += 1
            self.verdict.elements += own.size
            if count and tensor.name in open_ and lsb <= NEAR_TIE:
                self.verdict.near_ties += count
                answer = own
                continue
            self.verdict.mismatches += count
            if count and fault is None:
                flat = int(np.flatnonzero((codes != own).reshape(-1))[0])
                _, index = place(codes.shape, flat)
                fault = {
                    "name": f"{position}:{self.reading.tensors[number].name}",
                    "op": self.reading.kind(position),
                    "tensor": tensor.name,
                    "channel": index[-1] if index else None,
                    "position": index,
                    "expected": int(codes.reshape(-1)[flat]),
                    "got": int(own.reshape(-1)[flat]),
                    "blame": "lowering",
                }

    def _own(self, number: int, made: Mapping[str, Tensor], exact: Run) -> tuple[Tensor | None, IntArray | None]:
        """The integers that stand for a tensor of the file, in its layout; None where the graph has none."""
        for name, channels_first in zip(self.codes.get(number, []), (False, True), strict=False):
            tensor = made.get(name or "")
            if tensor is not None and tensor.name in exact.tensors:
                own = exact.tensors[tensor.name]
                return tensor, own.transpose(0, 2, 3, 1) if channels_first else own
        return None, None
