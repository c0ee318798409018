"""Networks: backbones of denoisers, guides, their layers, and readers of published checkpoints."""
