"""Measurements of a run: bits, quality, judgements, mutual information, memorisation."""
