"""Services that record training besides `metrics.jsonl` and TensorBoard, one file each."""
