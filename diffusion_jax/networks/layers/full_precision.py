"""Networks computed in the type of their inputs, where bfloat16 is too coarse."""

import dataclasses
from typing import Any

import flax.linen as nn


def in_float32(network: Any) -> Any:
    """The Flax network with `dtype` None, also in all networks in its fields; others unchanged."""
    if not isinstance(network, nn.Module):
        return network
    fields = {f.name: getattr(network, f.name) for f in dataclasses.fields(network)}
    changed: dict[str, Any] = {
        k: in_float32(a) for k, a in fields.items() if isinstance(a, nn.Module) and k != "parent"
    }
    if "dtype" in fields:
        changed["dtype"] = None
    return network.clone(**changed)
