"""Readers of published checkpoints."""

from pathlib import Path

# Prefixes of --checkpoint, as in `vdm:PATH`. All but the first are models of DiffEnc's code.
PREFIXES = ("vdm:", "diffenc:", "diffenc_nt:", "vdmv:")


def is_published(checkpoint: str) -> bool:
    """Whether a checkpoint is a published one, as `vdm:PATH`; a folder with that name is not."""
    return checkpoint.startswith(PREFIXES) and not Path(checkpoint).is_dir()
