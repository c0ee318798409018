"""Readers of published checkpoints."""
