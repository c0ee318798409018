"""Ways to split an image into a smaller one and the rest, without loss, one file each."""
