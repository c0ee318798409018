"""Guidance methods, which turn a denoiser into a guided one; one file each."""
