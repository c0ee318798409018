"""Where training is recorded besides `metrics.jsonl` and TensorBoard."""
