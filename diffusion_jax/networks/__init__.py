"""Networks: backbones, guides, autoencoders, text encoders, and readers of checkpoints."""
