"""Likelihood: training objectives, estimators, and their evaluation over data sets."""
