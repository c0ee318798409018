"""What diffusion is compared with. Only the task that trains a baseline, and its step, import it."""
