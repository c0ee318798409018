"""Groups of fields; each section of `config.base()` is a group too.

A mode lists the groups and fields that it reads in `READS`. Fields outside all groups belong to
the data or the model.
"""

GROUPS = {
    "training": (
        "init", "class_dropout", "text_dropout", "embedding_dropout", "low_clean", "objective",
        "beta", "beta_warmup", "proposal", "minimize_variance", "steps", "optimizer", "lr",
        "warmup", "lr_decay", "clip", "decay_mask", "ema_warmup", "per_dispatch", "on_nan",
        "spike", "log_every", "eval_every", "save_every", "sample_every", "keep_latest", "logger",
        "report", "valid_draws", "resident_mib", "data_ahead",
    ),
    "stages": ("stages",),
    "sampling": ("guidance", "sampler", "grid", "plan", "corrector", "final"),
}  # fmt: skip


def group(field: str) -> str:
    """The group of a field such as `"edit.image"`; empty for fields that every mode may use."""
    section, dot, _ = field.partition(".")
    return section if dot else next((g for g, names in GROUPS.items() if field in names), "")
