"""What a run's log tells, drawn: one page that needs nothing else, pictures, TensorBoard's events."""
