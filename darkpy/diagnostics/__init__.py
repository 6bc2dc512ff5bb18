"""Diagnosis of trainings: checks before a run, the monitor during it, reports after it."""
