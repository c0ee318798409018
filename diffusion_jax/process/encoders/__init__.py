"""Encoders x_t of the forward process, one file each."""
