"""What samples are compared by, one plug-in per file: `make(...)` returns `base.Features`."""
