"""Report of a run from its log: one HTML page, PNG images, TensorBoard events."""
