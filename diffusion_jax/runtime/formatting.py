"""How figures are written, for people and in JSON."""

import json
import math
from typing import Any


def plus_minus(value: float, error: float | None, form: str = ".4f") -> str:
    """A figure and its standard error, which is not known of a single image."""
    known = error is not None and math.isfinite(error)
    return f"{value:{form}} +- {f'{error:{form}}' if known else 'unknown'}"


def examples(data: dict[str, Any]) -> str:
    """What examples are called in a record of data, by its `medium`: images unless it says."""
    return f"{data.get('medium', 'image')}s"


def json_text(values: Any, **how: Any) -> str:
    """Valid JSON, which has no NaN or infinity: they are written as null."""
    return json.dumps(_finite(values), allow_nan=False, **how)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
