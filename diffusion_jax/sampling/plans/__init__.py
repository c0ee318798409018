"""Plans, which may add upward moves to a grid; one file each."""
