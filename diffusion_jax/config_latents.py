"""The stages shared by the configurations of latent models."""

from ml_collections import ConfigDict

STAGES = ("vae", "prior", "joint", "decoder")


def latent(config: ConfigDict, stage: str, network: str, decoder: str) -> ConfigDict:
    """Turns `config`, which has an autoencoder, into one stage of a latent model, in place.

    Args:
        stage: `vae` (the autoencoder alone), `prior` (a diffusion of its latents, with the
            autoencoder frozen), `joint` (both), `decoder` (a diffusion of images given latents).
        network: network of the diffusion of latents.
        decoder: network of the diffusion of images.
    """
    if stage in ("prior", "decoder"):
        config.autoencoder = "conv(checkpoint='runs/vae')"
    if stage == "decoder":
        config.view, config.network = "from_latent()", decoder
        return config
    config.prediction = "v"
    config.schedule = "learned_mlp(train_ends=False)" if stage == "prior" else "linear()"
    if stage == "vae":
        config.network, config.objective = "standard_normal()", "vae()"
        config.beta_warmup = 0.2
        config.conditional, config.guidance = False, "none()"
        return config
    config.network = network
    return config
