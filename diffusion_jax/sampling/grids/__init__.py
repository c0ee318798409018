"""Sampling grids: arrays of gamma, one file each."""
