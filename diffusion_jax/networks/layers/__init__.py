"""Building blocks of the networks.

Attention is in `blocks` (of U-Nets), `transformer` (of transformers) and `text` (to a text).
"""
