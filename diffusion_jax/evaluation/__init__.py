"""Sample quality: Frechet and kernel distance, precision and recall, feature spaces, audits."""
