"""An oracle that reads the file: what an ONNX network computes on a machine, from the protobuf alone.

`numbers`, `machine`, `requantizer`, `network` and `oracle` are the simulator: Python integers and Fractions, slow, and
nothing of intsim in them. Nor of `tests/twins`: two spellings of the registers, from two readings, see each other's
mistakes. `generate` and `machines` draw tiny networks and targets, `contradict` compares every verb
with all inputs of a network. `python -m tests.filelevel --count N --seed S` prints a table.
"""
