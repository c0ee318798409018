"""Checks that every page of ours must pass, without a browser."""

import base64
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

from PIL import Image

# A text that must stay one.
HOSTILE = "</style></title><script>pwned = 1</script><img src=x onerror='pwned = 2'>&amp;$x_\"'"


class Checked(HTMLParser):
    """A page whose tags are checked to be well nested."""

    void = frozenset({"img", "link", "meta", "source"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag):
        return [a for t, a in self.tags if t == tag]

    @property
    def text(self):
        return " ".join(self.words)


def opened(address):
    """The size of a picture in a data address, which must hold a whole picture."""
    kind, _, content = address.partition(";base64,")
    raw = base64.b64decode(content, validate=True)
    if kind == "data:image/svg+xml":
        root = ElementTree.fromstring(raw)
        assert root.tag.endswith("svg")
        assert b"http" not in re.sub(rb'xmlns[:\w]*="[^"]*"', b"", raw), "nothing to fetch"
        return tuple(float(root.get(k).removesuffix("pt")) for k in ("width", "height"))
    with Image.open(io.BytesIO(raw)) as picture:
        assert kind == f"data:image/{picture.format.lower()}"
        picture.load()
        return picture.size


def check_page(text):
    """The page, checked: tags, pictures, alternative texts, links, nothing from elsewhere."""
    found = Checked(text)
    assert not {"script", "iframe", "object", "embed", "form"} & {t for t, _ in found.tags}
    for a in found.all("img"):
        assert min(opened(a["src"])) > 0
        assert len(a["alt"]) > 10
    for a in found.all("source"):
        assert min(opened(a["srcset"])) > 0
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for a in found.all("a"):
        assert a["href"].removeprefix("#") in ids
    for tag, a in found.tags:
        assert not any(k.startswith("on") for k in a), tag
    return found


def headings(found_text):
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", found_text)
