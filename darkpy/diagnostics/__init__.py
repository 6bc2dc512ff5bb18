"""What goes wrong in a run, in the words of its cfg."""
