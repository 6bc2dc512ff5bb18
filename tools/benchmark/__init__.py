"""darkpy against its peers, on the machine at hand."""
