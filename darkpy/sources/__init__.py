"""Sources of images: files, folders, lists, arrays, tensors and generators, each opened as frames in order."""
