"""How captions become numbers that a network reads."""
