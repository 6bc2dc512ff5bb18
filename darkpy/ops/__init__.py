"""Maths that two layers share: no darknet section is known here."""
