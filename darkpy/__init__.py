"""darkpy: reads, runs and trains darknet networks in PyTorch, with darknet's numbers."""
