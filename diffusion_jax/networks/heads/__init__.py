"""Laws of whole levels given the outputs of a network, one file each."""
