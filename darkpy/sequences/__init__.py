"""Character-level networks: recurrent networks that read a text byte by byte and predict the next byte."""
