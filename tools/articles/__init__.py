"""Trainings that went wrong in articles, reproduced as runs of a minute."""
