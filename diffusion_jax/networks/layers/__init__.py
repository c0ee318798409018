"""Building blocks of the networks.

Attention is in `blocks` (for U-Nets), `transformer` (for transformers) and `text` (to a text).
"""
