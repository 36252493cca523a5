"""The model zoo: stereo networks, their synthetic data, training recipes, quantization and exported ONNX files.

Training and export need PyTorch and Brevitas (``pip install intsim[train]``). `models.stereo`, `models.real_pair`,
`models.datasets` and `models.evaluate` need only what intsim itself needs, plus Pillow.
"""
