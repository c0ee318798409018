"""Folders of pretrained text encoders with random weights, by the definitions of the formats."""

import json
import struct

import numpy as np

from diffusion_jax.networks.text_encoders import _clip, _t5

CLIP = {"vocab_size": 520, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 24, "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5}  # fmt: skip
T5 = {"vocab_size": 24, "d_model": 8, "d_kv": 3, "d_ff": 12, "num_layers": 2, "num_heads": 2,
      "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20,
      "layer_norm_epsilon": 1e-6, "feed_forward_proj": "gated-gelu"}  # fmt: skip
MERGES = ("l o", "lo w</w>", "e r</w>")
PIECES = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0, "\u2581": -3.0, "\u2581a": -1.0, "b": -2.0,
          "\u2581ab": -3.5, "c": -2.5, "bc": -5.5, "\u2581red": -2.0, "\u2581three": -3.0,
          ",": -2.0, "\u2581top": -3.0, "\u2581left": -3.0, "\u2581b": -4.0, "l": -3.0, "u": -3.0,
          "e": -3.0}  # fmt: skip


def written(path, arrays, kinds=None):
    """A safetensors file, by its definition."""
    header, numbers = {}, b""
    for name, a in arrays.items():
        kind = (kinds or {}).get(name, "F32")
        raw = (
            (np.asarray(a, np.float32).view(np.uint32) >> 16).astype("<u2") if kind == "BF16" else a
        )
        data = np.ascontiguousarray(raw).tobytes()
        header[name] = {"dtype": kind, "shape": list(np.shape(a)),
                        "data_offsets": [len(numbers), len(numbers) + len(data)]}  # fmt: skip
        numbers += data
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers)
    return path


def random(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {k: rng.normal(size=s).astype(np.float32) * 0.5 for k, s in shapes.items()}


def byte_symbols():
    """A visible character for each byte: itself, or the next one from 256 on."""
    out, more = [], 256
    for b in range(256):
        itself = 33 <= b <= 126 or 161 <= b <= 172 or b >= 174
        out.append(chr(b if itself else more))
        more += not itself
    return out


def clip_vocabulary(merges=MERGES):
    each = byte_symbols()
    joined = [m.replace(" ", "") for m in merges]
    names = [*each, *(s + "</w>" for s in each), *joined, "<|startoftext|>", "<|endoftext|>"]
    return {name: i for i, name in enumerate(names)}


def clip(path, prefix="text_model.", whole=False, **changes):
    """A CLIP's text tower, or with `whole` as a part of a CLIP."""
    config, path = CLIP | changes, path / "clip"
    path.mkdir()
    arrays = {prefix + k: v for k, v in random(_clip.shapes(config)).items()}
    written(path / "model.safetensors", arrays | ({"logit_scale": np.ones(())} if whole else {}),
            {"logit_scale": "F64"})  # fmt: skip
    told = {"model_type": "clip_text_model", **config}
    told = {"model_type": "clip", "text_config": told} if whole else told
    (path / "config.json").write_text(json.dumps(told))
    (path / "vocab.json").write_text(json.dumps(clip_vocabulary()))
    (path / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]))
    return path


def _whole(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, value):
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return _whole(number << 3) + _whole(value)
    if isinstance(value, float):
        return _whole(number << 3 | 5) + struct.pack("<f", value)
    return _whole(number << 3 | 2) + _whole(len(value)) + value


def rules(table):
    """Rules of normal forms as SentencePiece stores them: a trie of bytes, then what they become.

    The children of node k are in block k + 1 of 256 units; unit b of a block is of byte b, and
    unit 0 holds the value. A unit holds the difference (xor) to its children and its byte.
    """
    after, nodes, ends = b"", {b"": 0}, {}
    for before, instead in table.items():
        key = before.encode()
        ends[key] = len(after)
        after += instead.encode() + b"\0"
        for n in range(1, len(key) + 1):
            nodes.setdefault(key[:n], len(nodes))
    units = [0] * (256 * (len(nodes) + 1))
    for key, k in nodes.items():
        here = 256 * (nodes[key[:-1]] + 1) + key[-1] if key else 0
        units[here] = (here ^ 256 * (k + 1)) << 10 | (key in ends) << 8 | (key[-1] if key else 0)
        if key in ends:
            units[256 * (k + 1)] = ends[key] | 1 << 31
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + after


RULES = rules({"\t": " ", "\uff21": "a", "\ufb02": "fl", "B": "b", "A": "a"})


def spiece(pieces=PIECES, kind=1, apart=3, **spec):
    """A SentencePiece model; the first `apart` pieces are no text, the third is unknown."""
    out = b""
    for i, (name, score) in enumerate(pieces.items()):
        types = {2: 2}.get(i, 3 if i < apart else 1)
        out += field(1, field(1, name.encode()) + field(2, score) + field(3, types))
    out += field(2, field(3, kind))
    more = b"".join(field(int(k[1:]), v) for k, v in spec.items())
    return out + field(3, field(1, b"own") + field(2, RULES) + more)


def t5(path, embedding="shared.weight", scale=1.0, kind="F32", **changes):
    """A T5 encoder, in one file."""
    config, path = T5 | changes, path / "t5"
    path.mkdir()
    arrays = {k: v * scale for k, v in random(_t5.shapes(config, embedding)).items()}
    if kind == "F16":
        arrays = {k: v.astype(np.float16) for k, v in arrays.items()}
    written(path / "model.safetensors", arrays, dict.fromkeys(arrays, kind))
    (path / "config.json").write_text(json.dumps({"model_type": "t5", **config}))
    (path / "spiece.model").write_bytes(spiece())
    return path
