"""`--mode=statistics`: reference statistics of a data split, for later runs of `--mode=quality`."""

import jax

from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import features as feature_lib
from diffusion_jax.runtime.distributed import say

READS = ("quality", "eval")
WRITES = ("statistics",)


def run(experiment: Experiment) -> None:
    """Writes `statistics/<split>_<features>_<hash>.npz`; needs no checkpoint."""
    features = feature_lib.build(experiment, experiment.config.quality.features)
    with jax.default_matmul_precision(experiment.config.eval.matmul_precision or None):
        found, path = feature_lib.reference(
            experiment, features, feature_lib.extractor(experiment, features)
        )
    record = found.record
    many = f"{record['images']} {experiment.source.medium.name}s"
    say(
        f"{record['split']}: {many} (sha256 {record['data_sha256'][:12]}..), "
        f"{features.name} with {features.size} features (sha256 {features.digest[:12]}..), "
        f"{len(found.rows)} rows kept: {path}"
    )
