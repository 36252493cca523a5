"""Proofs that hold for every input: ranges of accumulators and partial sums."""
