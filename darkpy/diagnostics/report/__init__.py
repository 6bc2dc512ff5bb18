"""What a run's log tells, drawn: one page that needs nothing else, images, TensorBoard's events."""
