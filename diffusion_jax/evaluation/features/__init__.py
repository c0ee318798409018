"""Feature spaces in which samples are compared, one plug-in per file returning `base.Features`."""
