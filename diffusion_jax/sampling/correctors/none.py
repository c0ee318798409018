"""No corrector."""


def make() -> None:
    """No corrector: returns None, for `integrate(..., correct=None)`."""
