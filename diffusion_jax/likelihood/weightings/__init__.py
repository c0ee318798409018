"""Weights on the loss per unit of gamma, for `objectives/weighted`; the bound has weight 1."""
