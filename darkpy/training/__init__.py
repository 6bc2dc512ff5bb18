"""Training with darknet's dynamics: schedule, gradient rules, updates, and the trainer that calls them in order."""
