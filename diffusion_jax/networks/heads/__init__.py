"""Heads: distributions of integer levels from the outputs of a network; one file each."""
