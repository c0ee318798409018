"""Guidance methods, one file each: a denoiser in, a denoiser out."""
