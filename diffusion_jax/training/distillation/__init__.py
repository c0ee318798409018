"""Methods for distilling a model into a student that samples in few steps, one file each."""
