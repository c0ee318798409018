"""Correctors: moves within one noise level before each step of a sampler; one file each."""
