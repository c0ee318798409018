"""The training step, its loop, and everything it writes."""
