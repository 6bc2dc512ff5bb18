"""Maths that two rooms share: no darknet section is known here."""
