"""Multiply-accumulate layers on a machine: operands, plan, and the ranges of their partial sums."""
