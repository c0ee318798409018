"""Text encoders: from captions to token numbers or states; one file each."""
