"""Estimators of likelihood, one file each."""
