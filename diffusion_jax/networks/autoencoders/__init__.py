"""What lies between images and what diffuses, one file each."""
