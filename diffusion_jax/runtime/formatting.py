"""Formats numbers for people and for JSON."""

import json
import math
from typing import Any


def plus_minus(value: float, error: float | None, form: str = ".4f") -> str:
    """A value and its standard error, which is unknown for a single image."""
    known = error is not None and math.isfinite(error)
    return f"{value:{form}} +- {f'{error:{form}}' if known else 'unknown'}"


def examples(data: dict[str, Any]) -> str:
    """The plural noun for examples, from the `medium` in a record of data; images by default."""
    return f"{data.get('medium', 'image')}s"


def json_text(values: Any, **how: Any) -> str:
    """Valid JSON: NaN and infinity, which JSON does not have, are written as null."""
    return json.dumps(_finite(values), allow_nan=False, **how)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
