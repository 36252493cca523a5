"""Real runtimes held against plain formulas of their kernels: ONNX Runtime and PyTorch, on this machine and on Haswell.

`draw.py` draws layers whose weights fill the whole range, so that what can saturate does. `runtimes.py` runs them in
the real library, in a process of its own, if wanted under qemu. `formulas.py` computes the same codes in NumPy and
Python integers from what the libraries' sources say, and shares nothing with the package.
"""
