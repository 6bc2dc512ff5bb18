"""Writes cfg/: each network described by its parts, each file's text made from the description."""
