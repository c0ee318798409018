"""Lossless compression with a trained model: bits-back coding of images through its latents."""
