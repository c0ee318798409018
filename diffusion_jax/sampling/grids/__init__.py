"""Sampling grids: arrays of gammas, one file each."""
