"""Autoencoders, between images and the latents that diffuse; one file each."""
