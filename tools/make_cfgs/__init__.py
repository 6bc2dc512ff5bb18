"""Generator of the files of cfg/: each network is described by its parts."""
