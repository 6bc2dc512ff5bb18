"""Computation of anchors for a data set: k-means on the IoU of boxes that share a corner."""
