"""Guides: networks of noisy images whose gradients guide sampling; one file each."""
