"""Speed of reading a data set, in images per second, by the number of decoding threads.

    python -m benchmarks.data_loading "folder(path='pictures', size=64)" --workers 1 2 4

Compare it with the training speed (`benchmarks.train_step`): reading only has to be faster, because
it runs in parallel with training.
"""

import argparse
import time
from collections.abc import Sequence

from diffusion_jax import registry
from diffusion_jax.data import base


def rate(spec: str, data_dir: str, workers: int, batch: int, seconds: float) -> float:
    """Images per second of shuffled training batches."""
    split = registry.build("data", spec, data_dir=data_dir, workers=workers).split("train")
    split.take(base.indices(0, batch, len(split), 0))  # threads and decoders are started
    began, step = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step += 1
        split.take(base.indices(step, batch, len(split), 0))
    return step * batch / (time.perf_counter() - began)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one row per number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="the data plug-in, as in --config.data")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    args = parser.parse_args(argv)
    print("| threads | images/s |\n|---|---|")
    for n in args.workers:
        print(f"| {n} | {rate(args.data, args.data_dir, n, args.batch, args.seconds):,.0f} |")


if __name__ == "__main__":
    main()
