"""Encoders of the forward process, x -> x_t, one file each."""
