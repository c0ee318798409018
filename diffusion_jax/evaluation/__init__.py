"""Bits per dimension with standard errors, and image grids."""
