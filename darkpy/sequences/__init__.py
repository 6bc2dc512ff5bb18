"""Networks of characters: recurrent networks that read a text byte by byte and predict the next byte."""
