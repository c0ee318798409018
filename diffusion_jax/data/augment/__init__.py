"""Data augmentations, one plug-in per file."""
