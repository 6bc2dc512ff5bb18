"""Fast inference: lowering per layer class, quantization, compilation and other engines, each checked."""
