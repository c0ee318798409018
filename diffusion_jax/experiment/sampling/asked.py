"""The texts that samples should show, for judges."""

import numpy as np

from diffusion_jax.evaluation.judges import base
from diffusion_jax.experiment import Experiment, texts
from diffusion_jax.experiment.measures import caption_information, judges
from diffusion_jax.experiment.sampling import priors
from diffusion_jax.networks.text_encoders.base import plain


def words(run: Experiment) -> list[str]:
    """The prompt of each sample of `config.sample`, or the names of all classes.

    Raises:
        ConfigError: there are no prompts and no classes.
        DataError: classes have no names.
    """
    for part in run.stages or (run,):
        source = priors.opened(part)
        found = (
            source.captions if source is not None else texts.wanted(part, part.config.sample.num)
        )
        if found:
            return [plain(t) for t in found]
    return list(caption_information.class_names(run))


def check_judge(run: Experiment, judge: str) -> None:
    """Raises ConfigError for a judge that cannot assess these texts or images."""
    image = np.asarray(run.source.split(run.config.eval.split).images[:1])
    base.check(judges.opened(run, judge), image, words(run))
