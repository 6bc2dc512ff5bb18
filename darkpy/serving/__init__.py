"""HTTP servers: streams of `detector demo`, the live page of a training, and detection on posted images."""
