"""Folders of small random images."""

import numpy as np
from PIL import Image


def write(folder, n=60, size=4, classes=("cat", "dog"), suffix="png"):
    """`n` random pictures, `classes[i % 2]/00i.png`; returns them by name."""
    rng, images = np.random.default_rng(0), {}
    for i in range(n):
        name = f"{classes[i % len(classes)]}/{i:03d}.{suffix}" if classes else f"{i:03d}.{suffix}"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        images[name] = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(images[name]).save(path)
    return images
