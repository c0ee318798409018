"""Ways for a student of few steps to learn from its teacher, one file each."""
