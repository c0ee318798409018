"""How well a model explains data, one file for each way to measure it."""
