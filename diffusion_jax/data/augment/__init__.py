"""Data augmentations, one file each."""
