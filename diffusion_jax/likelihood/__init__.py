"""Likelihood: objectives to train on, estimators to measure with, and passes over data sets."""
