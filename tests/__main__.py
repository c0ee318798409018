"""`python -m tests`: lint, format, docstrings against signatures, docs, then every test."""

import os
import subprocess
import sys
from pathlib import Path

CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    # Docstrings against signatures: superfluous arguments and results.
    ("ruff", "check", "--preview", "--select", "DOC102,DOC202,DOC402", "diffusion_jax"),
    # Types of the numerical core; which folders is said in pyproject.toml.
    ("pyright", "--pythonpath", sys.executable),
    # Broken links and names that the reference cannot find are errors.
    ("mkdocs", "build", "--strict", "--quiet", "--site-dir", "build/docs"),
    ("pytest", "-n", "auto", "--dist", "loadfile"),
)


def run() -> int:
    """Runs every check, also after one has failed; returns how many failed."""
    failed = []
    for name, *args in CHECKS:
        print(f"== {name} {' '.join(args)}", flush=True)
        done = subprocess.run(
            [Path(sys.executable).with_name(name), *args],
            cwd=Path(__file__).resolve().parent.parent,
            env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},  # a notice of the theme's makers
        )
        if done.returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed", flush=True)
    return len(failed)


if __name__ == "__main__":
    sys.exit(run())
