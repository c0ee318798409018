"""All settings with their defaults, and helpers shared by the files in `configs/`.

Choices are plug-in strings (see `registry`), numbers are plain fields. The files in `configs/`
start from `base()`; the command line overrides any field: `--config.lr=1e-4`.
"""

from collections.abc import Iterable

from ml_collections import ConfigDict, config_dict

from diffusion_jax.errors import ConfigError


def get_config() -> ConfigDict:
    """`base()`: makes this module a `--config` file, for modes that need no run."""
    return base()


def base() -> ConfigDict:
    """The default configuration: VDM on 32x32 colour images."""
    c = ConfigDict()
    c.seed = 0  # seed for everything random in training: weights, noise, order of the data

    # Data. Kinds: data, augment.
    c.data = "cifar10()"  # holdout=N keeps N training examples back for validation
    c.data_dir = ""  # tensorflow-datasets folder; empty: ~/tensorflow_datasets
    c.augment = "none()"  # augmentation of training images: flip(), dihedral(), hidden(), ...
    # The part of an image that is modelled; low(haar()) and high(haar()) are a cascade's stages.
    c.view = "whole()"
    c.batch = 128  # global batch size, over all devices
    c.accumulate = 1  # micro-batches per step: saves memory, does not change results
    c.resident_mib = 1024  # training sets up to this size live on each device; larger are streamed
    c.data_workers = 0  # threads that decode image files; 0: one per processor
    c.data_ahead = 2  # number of dispatches for which streamed data are read ahead

    # Model. Kinds: backbones, autoencoders, encoders, schedules, decoders, text_encoders.
    c.network = "vdm_unet()"
    c.autoencoder = "pixels()"  # none; conv() for latent diffusion, see docs/howto/latent.md
    c.encoder = "identity()"  # time-dependent transform of the data: diffenc(), diffenc_nt()
    c.schedule = "learned_linear()"  # gamma(t) = -log SNR; linear() is fixed, learned_mlp() free
    # Ends of the schedule (initial values if it learns them); they also scale the time embedding.
    c.gamma_min = config_dict.placeholder(float)  # None: by the number of levels, -13.3 for 256
    c.gamma_max = 5.0  # hardly any signal is left there
    c.decoder = "categorical()"  # P(x | z_0), the distribution of levels given the last latent
    c.prediction = "eps"  # network output: eps, v, x, velocity, edm, or levels (logits per level)
    c.conditional = False  # condition on class labels
    c.class_dropout = 0.1  # probability of training with the null class
    c.text = ""  # encoder of captions: bytes(), words(), glove(), ...; see docs/howto/text.md
    c.text_dropout = 0.1  # probability of training without text
    # The run of a CLIP; the model is conditioned on its image embedding, see docs/howto/unclip.md.
    c.embedding = ""
    c.embedding_dropout = 0.1  # probability of training without the embedding
    c.low_clean = 0.5  # probability that a later stage trains on noise-free low-resolution images
    c.dtype = "float32"  # dtype of the network's arithmetic: float32 or bfloat16

    # What is trained. Kind: tasks.
    c.init = ""  # fine-tuning: the run that provides the initial weights, and nothing else
    # A diffusion model; or a network on noisy images for guidance: guide(classifier()),
    # guide(clip()), guide(discriminator(), against='runs/digits'); or a few-step student:
    # distill(teacher='runs/digits', method=segments(steps=4), guidance=cfg(w=1.5)).
    c.task = "diffusion()"

    # Training. Kinds: objectives, time_sampling; optimizer is any of optax's, muon() or soap().
    c.objective = "continuous()"  # discrete(timesteps=1000), weighted(weight=sigmoid())
    # Weight of the prior and diffusion terms in training, and the share of the steps over which it
    # rises from 0. For jointly trained autoencoders.
    c.beta, c.beta_warmup = 1.0, 0.0
    c.proposal = "uniform()"  # distribution of training times; vloss(), histogram(): less variance
    # Train the shape of the schedule to minimise the variance of the loss instead of the bound:
    # auto, on or off. auto: on if the schedule supports it and the objective is continuous.
    c.minimize_variance = "auto"
    c.steps = 10_000_000  # number of training steps
    c.optimizer = "adamw(b2=0.99, weight_decay=0.01)"  # lr and the decay mask are added
    c.lr = 2e-4  # learning rate after the warm-up
    c.warmup = 100  # warm-up steps of the learning rate
    c.lr_decay = "constant"  # constant, cosine, linear, or cooldown(0.2): to 0 over the last fifth
    c.clip = 0.0  # largest gradient norm; 0: no clipping
    c.decay_mask = "kernels"  # parameters that decay: kernels or all_but_bias
    c.ema = (0.9999,)  # weight averages: decays, or "power(0.05)", "power(0.1)"
    c.ema_warmup = True  # decays rise to their value in the first steps; power() needs none
    c.mesh = "data=-1"  # or data=-1,fsdp=4: split weights and optimiser state over 4 devices
    c.per_dispatch = 0  # steps per dispatch; 0: 1 on CPU, 10 elsewhere
    c.on_nan = "stop"  # or rollback: resume from the last checkpoint without the offending batches
    c.spike = 0.0  # a loss above this is treated as NaN; 0: no limit
    c.log_every = 100  # steps between lines of metrics; for each *_every, 0 means never
    c.eval_every = 10_000  # steps between validations
    c.save_every = 10_000  # steps between checkpoints
    c.sample_every = 10_000  # steps between grids of samples
    c.keep_latest = 2  # checkpoints kept beside the best
    c.logger = "files()"  # wandb(project='...') and mlflow(uri='...') log in addition to the files
    c.report = True  # write report.html when training ends

    # Sampling. Kinds: guidance, samplers, grids, plans, correctors, final_steps.
    c.guidance = "none()"  # or cfg(w=2.0), interval(cfg(w=2.0)), ...
    c.sampler = "ancestral()"  # or dpmpp_2m(), ddim(), ...
    c.grid = "log_snr()"  # noise levels of the steps; or karras(), uniform_t(), ...
    c.plan = "once()"  # whether noise is added again on the way: churn(), restart(), repaint()
    c.corrector = "none()"  # or langevin(), before every step
    # The last step: decode() to levels, denoise() likewise with one more network call, identity()
    # for real numbers.
    c.final = "decode()"
    c.sample = ConfigDict()
    c.sample.num = 64  # number of images; 0: no samples, also during training
    c.sample.steps = 250  # steps of the sampler, one or two network calls each
    c.sample.batch = 64  # images per call, over all devices
    c.sample.labels = ()  # classes to cycle through, numbers or names; empty: all in turn
    # Prompts to cycle through, for example ('a red three, top left', 'a (blue:2) seven'). If there
    # are none, the captions of eval.split are used, in order.
    c.sample.captions = ()
    c.sample.prompts = ""  # a file of more prompts, one a line
    c.sample.captions_of = ""  # a data plug-in that provides the captions instead of the run's data
    # Source of the CLIP embeddings of an unCLIP decoder: a prior's run (runs/prior), real images
    # (split:test), or captions (the CLIP's text embeddings). See docs/howto/unclip.md.
    c.sample.prior = ""
    c.sample.prior_samples = 1  # samples of the prior per text; the most similar to it is kept
    c.sample.prior_guidance = ""  # guidance of the prior; empty: the prior's own setting
    c.sample.best_of = 1  # candidates per image; the one that fits its text or class best is kept
    # What best_of chooses by: bits (the model's own), a classifier's run, or a judge: scenes().
    c.sample.judge = "bits"
    c.sample.seed = 0  # seed for the noise
    # Noise level (-log SNR) of the images given to later stages of a cascade; useful: -6 to 0.
    # None: no noise.
    c.sample.low_gamma = config_dict.placeholder(float)
    c.sample.low = ""  # input of a later stage on its own: npz, png, a folder, or split:test
    # Format of videos: gif (256 colours), webp, apng; empty: gif if grey, else webp.
    c.sample.format = ""
    c.sample.preview = True  # show a few samples in the terminal if it has colours

    # The runs of a cascade, from the smallest images to whole ones: runs/low,runs/high. All other
    # settings apply to each of them.
    c.stages = ""

    # Editing. Kind: edits.
    c.edit = ConfigDict()
    c.edit.method = "repaint()"  # replace, outpaint, sdedit, interpolate, vary, textdiff, ...
    c.edit.image = ""  # PNG or npz files, separated by commas, or split:test
    c.edit.mask = ""  # PNG or npz of the same size; white is repainted
    c.edit.pick = ()  # indices of the images to edit; empty: all of them
    c.edit.each = 1  # results per image
    # An independent classifier that compares results with their captions: scenes(), names().
    c.edit.judge = ""

    # Evaluation.
    c.eval = ConfigDict()
    c.eval.likelihood = "elbo()"  # estimator in mode eval; or ode(...). Kind: likelihood
    c.eval.split = "test"
    c.eval.draws = 16  # noise draws per image, even: stratified in two independent replicates
    c.eval.timesteps = (100, 1000)  # also report the bounds of models with T steps
    c.eval.batch = 128
    c.eval.limit = 0  # only the first N images (audit: N random ones of each set); 0: all
    # The weight average to use: 0.9999, posthoc(0.075), or params for the raw weights; empty: the
    # first of ema.
    c.eval.weights = ""
    c.eval.checkpoint = "latest"  # or best: lowest validation bits/dim, loss or agreement
    c.eval.matmul_precision = "float32"  # rules out silent TF32; empty: the device's default
    c.eval.seed = 0
    c.valid_draws = 2  # noise draws per image in validation during training

    # Rate-distortion curves and out-of-distribution scores; other settings are those of eval.
    c.progressive = ConfigDict()
    c.progressive.steps = 200  # steps of the bound, one network call each
    c.progressive.images = 8  # number of images in the picture
    c.ood = ConfigDict()
    c.ood.data = ""  # in-distribution data plug-in; empty: the model's own data
    c.ood.against = ""  # out-of-distribution data, for example rotated(digits())
    # Noise levels (gamma) at which reconstructions are scored; empty: four between the ends.
    c.ood.gammas = ()

    # Mutual information of text (or class) and image; draws, split and limit are those of eval.
    c.inform = ConfigDict()
    c.inform.data = ""  # a data plug-in; empty: the model's own data
    c.inform.words = True  # also bits per word, for data whose captions consist of known parts
    c.inform.orders = False  # average over all orders of up to four words, not only the caption's
    c.inform.candidates = 8  # captions compared for each image; 0: all of them, and their mixture
    c.inform.negatives = 1  # captions with one wrong word, for each word
    c.inform.against = ""  # a run without text, as a second estimate of the unconditional bound
    # For a prior: a run of the images themselves. Their mutual information with the text is an
    # upper bound on that of their CLIP embeddings.
    c.inform.of = ""
    c.inform.pictures = 8  # images for which a map of bits per pixel is drawn

    # Comparison of two runs with the same noise draws, with the settings of eval; differences are
    # b - a.
    c.compare = ConfigDict()
    c.compare.a = ""  # a work directory, a checkpoint, or a cascade's stages, runs/low,runs/high
    c.compare.b = ""  # likewise

    # Memorisation of training images; samples and judge are those of quality.
    c.audit = ConfigDict()
    c.audit.bands = 8  # number of bands of noise levels in which the losses are compared
    c.audit.against = ""  # a run trained on other images: do both draw the same?

    # Compression (compress, decompress, verify); the split and the weights are those of eval.
    c.compress = ConfigDict()
    # compress: npz, png or folder of png; empty: the split. decompress: a .djz file; empty: the
    # newest in the work directory.
    c.compress.input = ""
    c.compress.output = ""  # the file to write; empty: in the work directory, named by the step
    c.compress.verify = False  # compress: also decode the file; decompress: decode without writing
    c.compress.timesteps = 100  # number of steps T: more are slower and give smaller files
    c.compress.grid = ""  # noise levels of the steps: dp(...), ...; empty: uniform in time
    c.compress.order = "auto"  # bitswap or topdown; auto: bitswap unless the model has an encoder
    c.compress.batch = 0  # images coded in parallel: faster, more initial bits; 0: 8, or the file's
    c.compress.group = 1024  # images per stack: damage stays within one, each needs initial bits
    # code (labels are stored, and their bits counted) or null (the null class); auto: code if there
    # are labels.
    c.compress.labels = "auto"
    c.compress.limit = 0  # only the first N images; 0: all of them
    c.compress.seed = 0  # seed for the initial bits
    c.compress.compare = False  # also report the sizes of PNG, WebP and JPEG XL
    c.compress.png = False  # decompress: also write png files

    # Quality of samples. Kind: features.
    c.quality = ConfigDict()
    c.quality.features = "pixels()"  # or classifier(checkpoint='DIR'), inception(weights='FILE')
    c.quality.metrics = ("frechet", "kid", "coverage")  # coverage includes precision and recall
    c.quality.split = "train"  # split of the data that is the reference
    # Reference statistics, an npz of `djax statistics`; empty: computed, kept in the workdir.
    c.quality.reference = ""
    c.quality.floor = "test"  # split of real images that are scored like samples; empty: none
    c.quality.samples = ""  # npz with image (and label), or a folder of images; empty: sampled
    c.quality.repeats = 1  # sets of samples, with seeds sample.seed, sample.seed + 1, ...
    c.quality.judge = ""  # classifier for texts: scenes(), names(), emoji(), icons(). Kind: judges
    c.quality.classifier = ""  # a classifier's run, for the class accuracy and histogram
    # A CLIP's run, for the similarity of samples and texts; not the one that guides.
    c.quality.clip = ""
    c.quality.nearest = "pixels()"  # features for nearest training images; empty: no such search
    c.quality.batch = 256  # images per call of the features, over all devices
    c.quality.k = 3  # the k-th neighbour bounds neighbourhoods in precision, recall, coverage
    c.quality.subset = 1000  # approximate number of images in a subset for kid
    c.quality.rows = 10_000  # reference images whose features are kept
    c.quality.seed = 0  # seed for the subsets

    # Weights for others to use, with a model card.
    c.export = ConfigDict()
    c.export.output = ""  # the folder to write, for example pretrained/mnist
    c.export.dtype = "float32"  # or bfloat16: half the size; export.measure shows the loss
    c.export.licence = ""  # licence of the weights and the data
    c.export.command = ""  # the command that trained them
    c.export.measure = True  # evaluate the written weights as mode eval does, for the card

    # The list of plug-ins.
    c.list = ConfigDict()
    c.list.kind = ""  # only this kind, for example samplers
    return c


def guide(data: str, task: str, steps: int) -> ConfigDict:
    """Settings shared by the guidance networks, which are trained on noisy images."""
    c = base()
    c.data, c.task, c.steps = data, task, steps
    c.batch = 64
    c.lr, c.lr_decay = 1e-3, "cosine"
    c.optimizer = "adamw(weight_decay=0.05)"
    c.ema = (0.99,)
    c.log_every, c.eval_every, c.save_every, c.sample_every = 50, 200, 200, 0
    c.eval.batch = 300
    return c


def student(data: str, task: str) -> ConfigDict:
    """Settings shared by few-step students; the model itself is copied from the teacher."""
    c = base()
    c.data, c.task = data, task
    c.lr_decay, c.clip = "linear", 1.0
    c.optimizer = "adam(b2=0.99)"
    c.sample_every = 0
    c.sample.num, c.sample.batch = 100, 100
    return c


def variant(config: ConfigDict, name: str, smoke: str) -> ConfigDict:
    """Applies the part after the colon of `--config=FILE:smoke` to `config`, in place.

    `smoke` is the small network (or task) of the variant `smoke`, a one-minute test on a CPU.
    """
    if name not in ("", "smoke"):
        raise ConfigError(f"unknown variant {name!r} after the colon of --config; allowed: smoke")
    if name:
        field = "network" if config.task == base().task else "task"
        config[field] = smoke
        config.steps, config.batch, config.accumulate = 20, 16, 1
        config.log_every, config.eval_every, config.save_every, config.sample_every = 5, 0, 10, 0
        config.eval.draws, config.eval.limit, config.eval.batch = 2, 16, 16
        config.eval.timesteps = ()
        config.sample.num, config.sample.batch, config.sample.steps = 10, 10, 5
    return config


def split_variant(text: str, names: Iterable[str], default: str) -> tuple[str, str]:
    """Splits the part after the colon of `--config` into the name and `"smoke"` (or `""`).

    The part is `"NAME"`, `"NAME_smoke"` or `"smoke"`. An absent name means `default`; one that is
    not in `names` raises `ConfigError`.
    """
    smoke = text == "smoke" or text.endswith("_smoke")
    name = (text.removesuffix("smoke").removesuffix("_") if smoke else text) or default
    if name not in names:
        raise ConfigError(
            f"unknown variant {text!r} after the colon of --config; allowed: "
            f"{', '.join(filter(None, names))}, each also with _smoke, or smoke"
        )
    return name, "smoke" if smoke else ""
