"""Moves within one noise level, before a sampler's step: one file each."""
