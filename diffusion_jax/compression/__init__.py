"""Lossless compression with a trained model: bits-back coding of images through its latents.

`order` is the algorithm, `latent_chain` the steps of the diffusion that it codes, `bins` the
discretised latents, `rans` the stack of bits, `container` the file.
"""
