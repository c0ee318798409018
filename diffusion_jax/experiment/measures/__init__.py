"""What is measured of a run: bits, quality, judgements, what it remembers."""
