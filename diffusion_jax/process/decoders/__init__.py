"""Decoders p(x | z_0), one file each."""
