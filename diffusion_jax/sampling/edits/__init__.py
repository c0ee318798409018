"""What `--mode=edit` can do to given images, one file each."""
