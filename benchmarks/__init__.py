"""Benchmarks: tables and ratios, never assertions."""
