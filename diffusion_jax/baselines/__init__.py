"""Baselines for comparison with diffusion. Only their tasks and training steps import them."""
