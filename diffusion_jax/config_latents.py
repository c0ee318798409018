"""What the configurations of latents share: their stages."""

from ml_collections import ConfigDict

STAGES = ("vae", "prior", "joint")


def latent(config: ConfigDict, stage: str, network: str, schedule: str = "") -> ConfigDict:
    """Makes `config`, which has an autoencoder, one stage of a model of its latents, in place.

    Args:
        stage: `vae` (the autoencoder alone), `prior` (a diffusion of its latents; the autoencoder
            is the checkpoint's, and stays) or `joint` (both).
        network: of the diffusion.
        schedule: of the prior's.
    """
    config.prediction = "v"
    config.schedule = "linear()"
    if stage == "vae":
        config.network, config.objective = "standard_normal()", "vae()"
        config.beta_warmup = 0.2
        config.conditional, config.guidance = False, "none()"
        return config
    config.network = network
    if stage == "prior":
        config.autoencoder = "conv(checkpoint='runs/vae')"
        config.schedule = schedule or "learned_mlp(train_ends=False)"
    return config
