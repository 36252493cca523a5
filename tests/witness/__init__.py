"""Real instructions as witnesses: `hardware/witness/*.c`, built and run here, against the registers of the targets."""

from .programs import WITNESSES, Witness, available, missing

__all__ = ["WITNESSES", "Witness", "available", "missing"]
