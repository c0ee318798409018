"""What `sampling.integrate` can do around every step, one file each."""
