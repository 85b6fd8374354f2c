"""Torch student -> proven ONNX bundle."""
