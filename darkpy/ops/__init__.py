"""Mathematics shared by layers, independent of darknet's sections."""
