"""Reads captions for a folder of images: text files beside the images, or one JSON lines file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusion_jax.data.captions import Captions, captions_of, missing
from diffusion_jax.data.listing import BESIDE, Listing
from diffusion_jax.errors import DataError


def read(root: Path, how: str, splits: Mapping[str, Listing]) -> dict[str, Captions]:
    """The captions of every split.

    Args:
        root: the folder.
        how: `"txt"` for text files beside the images, or the name of a JSON lines file in `root`.
        splits: the images of each split.

    Raises:
        DataError: an image has no caption, a caption has no image, or a file is not UTF-8 or JSON.
    """
    if how == BESIDE:
        return {name: _beside(files) for name, files in splits.items() if files.names}
    table = _lines(root, how)
    known = {str((f.root / n).relative_to(root)) for f in splits.values() for n in f.names}
    unknown = sorted(table.keys() - known)
    if unknown:
        raise missing(str(root / how), "captions are without an image", unknown)
    return {name: _of(files, table, root) for name, files in splits.items() if files.names}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is not UTF-8 text ({e.reason}); convert it") from e
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror}") from e


def _beside(files: Listing) -> Captions:
    texts, without = [], []
    for name in files.names:
        path = (files.root / name).with_suffix(".txt")
        first = _text(path).strip().partition("\n")[0].strip() if path.exists() else ""
        texts.append(first)
        if not first:
            without.append(name)
    if without:
        raise missing(str(files.root), "images have no caption in a .txt beside them", without)
    return captions_of(texts)


def _lines(root: Path, name: str) -> dict[str, list[str]]:
    """The captions of each image file, by its path below `root`."""
    table: dict[str, list[str]] = {}
    # Not splitlines(), because texts may contain other line separators, such as U+2028.
    for number, line in enumerate(_text(root / name).split("\n"), 1):
        if line.strip():
            file, text = _pair(f"{root / name}, line {number}", line)
            table.setdefault(file, []).append(text)
    return table


def _pair(where: str, line: str) -> tuple[str, str]:
    try:
        row: Any = json.loads(line)
        file, text = row["file"], row["text"].strip()
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise DataError(f'{where} must be like {{"file": "1.png", "text": "a cat"}}') from e
    if not text or not isinstance(file, str):
        raise DataError(f"{where} has no text")
    return file, text


def _of(files: Listing, table: Mapping[str, list[str]], root: Path) -> Captions:
    paths = [str((files.root / n).relative_to(root)) for n in files.names]
    without = [p for p in paths if p not in table]
    if without:
        raise missing(str(root), "images have no caption", without)
    most = max(len(table[p]) for p in paths)
    # Images with fewer wordings repeat them, so that each is drawn about equally often.
    return captions_of([[table[p][i % len(table[p])] for i in range(most)] for p in paths])
