"""From files on disk to tensors: image lists, label files, images, batches."""
