"""Readers of published checkpoints."""

from pathlib import Path

# How --checkpoint names them: `vdm:PATH`. All but the first are models of DiffEnc's code.
PREFIXES = ("vdm:", "diffenc:", "diffenc_nt:", "vdmv:")


def is_published(checkpoint: str) -> bool:
    """Whether a checkpoint is a published one, as `vdm:PATH` is; a folder of that name is a run."""
    return checkpoint.startswith(PREFIXES) and not Path(checkpoint).is_dir()
