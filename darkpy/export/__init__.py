"""Import and export: weights as named arrays (.pt, .safetensors), as ONNX, and from other programs' files."""
