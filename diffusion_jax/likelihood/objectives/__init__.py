"""Variational bounds, one file each."""
