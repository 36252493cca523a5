"""Mutants of the files that intsim reads: each ends in a result or in one line, within its budget, and never wrong."""
