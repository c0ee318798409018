"""What becomes of the latent at the end of a run: one file each."""
