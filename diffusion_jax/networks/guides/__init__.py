"""Networks of noisy images that guidance follows the gradient of: one file each."""
