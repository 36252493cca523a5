"""Compiled inner loops, and their machine code on disk."""
