"""Defaults of evaluations and of their commands, whose help shows them without importing torch."""

CLASSIFIER_BATCH_SIZE = 16
"""Images per batch of networks whose output is a vector: classifiers, regressors, taggers."""
MASK_BATCH_SIZE = 4
"""Images per batch of networks whose output is a map."""
DEFAULT_TOP = 5
"""Classes of an image that are shown, and k of top-k accuracy, by default."""
