"""Proposals for the training times, one file each."""
