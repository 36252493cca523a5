"""Requantizers as formulas, tables and compiled loops, each proven to be the scheme's definition."""
