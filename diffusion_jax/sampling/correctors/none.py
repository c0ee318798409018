"""No corrector."""


def make() -> None:
    """Nothing for `integrate(..., correct=None)`."""
