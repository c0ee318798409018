"""Pyramids: lossless splits of an image into a smaller one and the rest. One plug-in per file."""
