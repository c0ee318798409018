"""Backbones: the networks of denoisers; one file each."""
