"""Final steps: from the latent at the end of a run to data; one file each."""
