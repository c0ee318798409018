"""Readers of published checkpoints."""

# How --checkpoint names them: `vdm:PATH`. All but the first are models of DiffEnc's code.
PREFIXES = ("vdm:", "diffenc:", "diffenc_nt:", "vdmv:")
