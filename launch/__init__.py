"""Running on TPU slices, clusters and several processes: see README.md in this folder."""
