"""Reading the reference files: flat names to nested parameters."""

import numpy as np


def nested(case, prefix):
    """The arrays whose names start with `prefix`, as nested dicts, in float64."""
    out = {}
    for key in case:
        if key.startswith(prefix):
            *path, leaf = key.removeprefix(prefix).strip("/").split("/")
            node = out
            for p in path:
                node = node.setdefault(p, {})
            node[leaf] = case[key].astype(np.float64)
    return out
