"""Data sets, augmentations, and passes over them."""
