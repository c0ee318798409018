"""Judges: independent classifiers of whether an image matches its text, one plug-in per file."""
