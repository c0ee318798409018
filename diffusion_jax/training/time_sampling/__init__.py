"""Proposal distributions for the training times, one file each."""
