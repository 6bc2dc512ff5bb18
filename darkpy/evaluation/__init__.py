"""From head outputs to boxes, and what they are worth."""
