"""The command line: arguments, talk and files; no arithmetic."""
