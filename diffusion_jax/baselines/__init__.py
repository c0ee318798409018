"""What diffusion is compared with. Only the task of a baseline and its step import it."""
