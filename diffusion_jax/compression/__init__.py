"""Lossless compression with a trained model: bits-back coding of images through its latents.

`bits_back` is the algorithm, `latent_chain` the diffusion steps that it codes, `bins` the
discretised latents, `rans` the stack of bits, and `container` the file.
"""
