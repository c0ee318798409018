"""What of an image a run models, and what it is given of the rest, one file each."""
