"""Cases of articles on trainings that went wrong, as runs of a minute."""
