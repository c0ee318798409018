"""`python -m tests`: lint, format, types, docs and the tests but slow ones; `--all` with those."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    # Docstrings against signatures: superfluous arguments and results.
    ("ruff", "check", "--preview", "--select", "DOC102,DOC202,DOC402", "diffusion_jax"),
    # Types of the numerical core; which folders is said in pyproject.toml.
    ("pyright", "--pythonpath", sys.executable),
    # Broken links and names that the reference cannot find are errors; not with --quiet, which
    # drops the warnings that --strict counts.
    ("mkdocs", "build", "--strict", "--site-dir", "build/docs"),
)
# In the order of `pytest_collection_modifyitems`, not by how many tests a file has.
TESTS = (
    *("pytest", "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"),
    "--durations=25",
)
EVERYDAY = ("-m", "not slow")


def _run(check: tuple[str, ...], kept: bool = False) -> tuple[str, bool]:
    """Runs one check, its output kept or shown; a report, and whether it passed."""
    name, *args = check
    start = time.monotonic()
    done = subprocess.run(
        [Path(sys.executable).with_name(name), *args],
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},  # a notice of the theme's makers
        stdout=subprocess.PIPE if kept else None,
        stderr=subprocess.STDOUT if kept else None,
        text=True,
    )
    took = f"{time.monotonic() - start:.0f} s"
    return f"{done.stdout or ''}== {' '.join(check)}: {took}", done.returncode == 0


def run(everything: bool) -> int:
    """Runs every check, also after one has failed; returns how many failed."""
    tests = TESTS if everything else TESTS + EVERYDAY
    print(f"== {' '.join(tests)}, and {len(CHECKS)} checks beside it", flush=True)
    # Tests wait a good deal, for processes and for the clock: there is time for the checks.
    with ThreadPoolExecutor(max_workers=1) as beside:
        checks = beside.map(lambda check: _run(check, kept=True), CHECKS)
        reports = [_run(tests), *checks]
    for report, _ in reports:
        print(report)
    failed = [c[0] for c, (_, passed) in zip((tests, *CHECKS), reports, strict=True) if not passed]
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed", flush=True)
    return len(failed)


if __name__ == "__main__":
    if set(sys.argv[1:]) - {"--all"}:
        sys.exit(f"unknown: {' '.join(sys.argv[1:])}; allowed: --all, every test")
    sys.exit(run(everything="--all" in sys.argv[1:]))
