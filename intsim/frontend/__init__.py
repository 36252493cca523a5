"""ONNX files in, integer graphs out: reading QONNX, QCDQ and QOperator files, and lowering."""
