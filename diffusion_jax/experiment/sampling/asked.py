"""What samples are to show, in words: what judges hold them against."""

import numpy as np

from diffusion_jax.evaluation.judges import base
from diffusion_jax.experiment import Experiment, texts
from diffusion_jax.experiment.measures import caption_information, judges
from diffusion_jax.experiment.sampling import priors
from diffusion_jax.networks.text_encoders.base import plain


def words(run: Experiment) -> list[str]:
    """The text of each sample that `config.sample` asks for, or the names of all classes.

    Raises:
        ConfigError: nothing says what samples are to show.
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
    """Refuses (`ConfigError`) a judge that cannot read these texts, or see such images."""
    image = np.asarray(run.source.split(run.config.eval.split).images[:1])
    base.check(judges.opened(run, judge), image, words(run))
