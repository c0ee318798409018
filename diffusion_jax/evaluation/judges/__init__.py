"""Whether images show what a text says, by eyes that never guided a sampler: one file each."""
