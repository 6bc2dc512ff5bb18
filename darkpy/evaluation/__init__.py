"""Detection from head outputs to boxes, and evaluation metrics."""
