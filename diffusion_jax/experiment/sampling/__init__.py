"""How a run is sampled and its images are edited."""
