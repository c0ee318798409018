"""Sampling plans: arrays of gamma, one file each."""
