"""The quality of samples: Frechet and kernel distance, precision and recall, spaces of features."""
