"""What examples are, images or others: their shapes, how they are shown, what files they go to."""
