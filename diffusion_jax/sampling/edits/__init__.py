"""Edits of given images, for `--mode=edit`; one file each."""
