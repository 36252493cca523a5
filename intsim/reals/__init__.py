"""Bounds of elementary functions on exact rationals, and enclosures that carry them through formulas."""
