"""Data sets, one plug-in per file."""
