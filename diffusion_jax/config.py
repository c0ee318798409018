"""Every setting, with its default, in one place; and what the files in `configs/` share.

Choices are plug-in strings (see `registry`), numbers are plain fields. The files in `configs/`
start from `base()`; the command line overrides any field: `--config.lr=1e-4`.
"""

from collections.abc import Iterable

from ml_collections import ConfigDict, config_dict

from diffusion_jax.errors import ConfigError


def get_config() -> ConfigDict:
    """`base()`, for modes that need no run (as a `--config` file)."""
    return base()


def base() -> ConfigDict:
    """The default configuration: VDM on 32x32 colour images."""
    c = ConfigDict()
    c.seed = 0  # of everything random: weights, noise, data order

    # Data. Kinds: data, augment.
    c.data = "cifar10()"  # add holdout=N for the part of train kept back for validation
    c.data_dir = ""  # tensorflow-datasets folder; empty: ~/tensorflow_datasets
    c.augment = "none()"  # changes of training images: flip(), dihedral(), hidden(), ...
    c.view = "whole()"  # what of an image is modelled: low(haar()), high(haar()) of a cascade
    c.batch = 128  # global batch, over all devices
    c.accumulate = 1  # micro-batches per step; changes memory, not results
    c.resident_mib = 1024  # training sets up to this size live on each device; larger are streamed
    c.data_workers = 0  # threads that decode image files; 0: one per processor
    c.data_ahead = 2  # dispatches whose data are read ahead, of sets that are streamed

    # Model. Kinds: backbones, autoencoders, encoders, schedules, decoders, text_encoders.
    c.network = "vdm_unet()"
    c.autoencoder = "pixels()"  # or conv(): latents diffuse, see docs/howto/latent.md
    c.encoder = "identity()"  # or diffenc(), diffenc_nt(): what of the data diffuses at each time
    c.schedule = "learned_linear()"  # gamma(t) = -log SNR; linear() is fixed, learned_mlp() free
    # Initial (or fixed) ends of the schedule; they also scale the time embedding.
    c.gamma_min = config_dict.placeholder(float)  # by the number of levels: -13.3 for 256
    c.gamma_max = 5.0  # where hardly any signal is left
    c.decoder = "categorical()"  # P(x | z_0): the law of grey levels given the last latent
    c.prediction = "eps"  # eps, v, x, velocity, edm, or levels: logits of all levels
    c.conditional = False  # condition on class labels
    c.class_dropout = 0.1  # probability of the learned null class in training
    c.text = ""  # read the data's captions: bytes(), words(), glove(), ...; see docs/howto/text.md
    c.text_dropout = 0.1  # probability of no text in training
    c.embedding = ""  # a CLIP's run: tell what that sees of the image; see docs/howto/unclip.md
    c.embedding_dropout = 0.1  # probability of not telling it in training
    c.low_clean = 0.5  # how often the small images of a cascade's later stage are without noise
    c.dtype = "float32"  # arithmetic of the network: float32 or bfloat16

    # What is trained. Kind: tasks.
    c.init = ""  # a run whose weights to start from (fine-tuning); everything else is new
    c.task = "diffusion()"  # or a network of noisy images for guidance: guide(classifier()),
    # guide(clip()), guide(discriminator(), against='runs/digits'); or a student of few steps:
    # distill(teacher='runs/digits', method=segments(steps=4), guidance=cfg(w=1.5))

    # Training. Kinds: objectives, time_sampling; optimizer is any of optax's, muon() or soap().
    c.objective = "continuous()"  # discrete(timesteps=1000), weighted(weight=sigmoid())
    # What prior and diffusion terms count in training, and the share of the steps in which that
    # grows from 0: for an autoencoder that learns with them.
    c.beta, c.beta_warmup = 1.0, 0.0
    c.proposal = "uniform()"  # of the times in training; or vloss(), histogram(): less variance
    # Train a schedule's shape on the variance of the loss instead of the bound: auto, on or off.
    c.minimize_variance = "auto"  # on if the schedule has one and the objective is continuous
    c.steps = 10_000_000  # of training
    c.optimizer = "adamw(b2=0.99, weight_decay=0.01)"  # lr and the decay mask are added
    c.lr = 2e-4  # the learning rate after the warm-up
    c.warmup = 100  # steps
    c.lr_decay = "constant"  # constant, cosine, linear, or cooldown(0.2): to 0 over the last fifth
    c.clip = 0.0  # largest gradient norm; 0: no clipping
    c.decay_mask = "kernels"  # which parameters decay: kernels or all_but_bias
    c.ema = (0.9999,)  # averages of the weights: decays, or "power(0.05)", "power(0.1)"
    c.ema_warmup = True  # decays grow to their value in the first steps; power() needs none
    c.mesh = "data=-1"  # or data=-1,fsdp=4: split weights and optimiser state over 4 devices
    c.per_dispatch = 0  # steps per dispatch; 0: 1 on CPU, 10 elsewhere
    c.on_nan = "stop"  # or rollback: back to the last checkpoint, without the offending batches
    c.spike = 0.0  # a loss above this is treated as NaN; 0: no limit
    c.log_every = 100  # steps; for each *_every, 0 means never
    c.eval_every = 10_000  # validation
    c.save_every = 10_000  # checkpoints
    c.sample_every = 10_000  # a grid of samples
    c.keep_latest = 2  # checkpoints kept beside the best
    c.logger = "files()"  # or wandb(project='...'), mlflow(uri='...'): records besides the files
    c.report = True  # write report.html when training ends

    # Sampling. Kinds: guidance, samplers, grids, plans, correctors, final_steps.
    c.guidance = "none()"  # or cfg(w=2.0), interval(cfg(w=2.0)), ...
    c.sampler = "ancestral()"  # or dpmpp_2m(), ddim(), ...
    c.grid = "log_snr()"  # which noise levels are visited; or karras(), uniform_t(), ...
    c.plan = "once()"  # where to go up again: churn(), restart(), repaint()
    c.corrector = "none()"  # or langevin(), before every step
    c.final = "decode()"  # to levels; or denoise() (one more call), identity() (real numbers)
    c.sample = ConfigDict()
    c.sample.num = 64  # images; 0: none, not while training either
    c.sample.steps = 250  # of the sampler, each one network call or two
    c.sample.batch = 64  # images per call, over all devices
    c.sample.labels = ()  # classes to cycle through, numbers or names; empty: all in turn
    # Texts to cycle through, as ('a red three, top left', 'a (blue:2) seven'); without any: the
    # captions of eval.split, in order.
    c.sample.captions = ()
    c.sample.prompts = ""  # a file of more, one a line
    c.sample.captions_of = ""  # a data plug-in whose captions to take in place of the run's own
    # What a decoder is told of images (unCLIP): by a prior, runs/prior; by real ones, split:test;
    # or by captions, the vectors that the CLIP has for them. See docs/howto/unclip.md.
    c.sample.prior = ""
    c.sample.prior_samples = 1  # draws of the prior, of which the one most like its text is kept
    c.sample.prior_guidance = ""  # of the prior; empty: its own
    c.sample.best_of = 1  # draw each so often, keep what fits its text or class best
    c.sample.judge = "bits"  # by this: the model's own bits, a classifier's run, or scenes()
    c.sample.seed = 0  # of their noise
    # Noise in what later stages of a cascade are given (-log SNR, -6 .. 0 of use); None: none.
    c.sample.low_gamma = config_dict.placeholder(float)
    c.sample.low = ""  # small images for a later stage alone: npz, png, a folder, or split:test
    c.sample.format = ""  # of films: gif (256 colours), webp, apng; empty: gif if grey, else webp
    c.sample.preview = True  # show a few in a terminal with colours

    # The runs of a cascade, from small images to whole ones: runs/low,runs/high. The other settings
    # of a mode are for each of them.
    c.stages = ""

    # Editing. Kind: edits.
    c.edit = ConfigDict()
    c.edit.method = "repaint()"  # replace, outpaint, sdedit, interpolate, vary, textdiff, ...
    c.edit.image = ""  # PNG or npz, several with commas, or split:test
    c.edit.mask = ""  # PNG or npz of the same size; white is painted
    c.edit.pick = ()  # which of the images; empty: all of them
    c.edit.each = 1  # results for each image
    c.edit.judge = (
        ""  # of texts, scenes() or names(): what of the images' captions do results show?
    )

    # Evaluation.
    c.eval = ConfigDict()
    c.eval.likelihood = "elbo()"  # of mode eval; or ode(...). Kind: likelihood
    c.eval.split = "test"
    c.eval.draws = 16  # times per image, even: stratified in two independent replicates
    c.eval.timesteps = (100, 1000)  # also report the bound of models with T steps
    c.eval.batch = 128
    c.eval.limit = 0  # only the first N images (audit: N of each, at random); 0: all of them
    c.eval.weights = ""  # an average: 0.9999, posthoc(0.075); or params; empty: the first
    c.eval.checkpoint = "latest"  # or best: lowest held-out bits/dim, loss or agreement
    c.eval.matmul_precision = "float32"  # no silent TF32; empty: the device's default
    c.eval.seed = 0
    c.valid_draws = 2  # times per image in the validation during training

    # Rate-distortion and out-of-distribution scores; the rest of their settings are those of eval.
    c.progressive = ConfigDict()
    c.progressive.steps = 200  # of the bound whose rate is drawn; one network call each
    c.progressive.images = 8  # in the picture
    c.ood = ConfigDict()
    c.ood.data = ""  # a data plug-in; empty: the model's own data
    c.ood.against = ""  # the data to tell apart, for example rotated(digits())
    c.ood.gammas = ()  # where reconstructions are scored; empty: four between the ends

    # What text (or the class) and image tell of each other; draws, split and limit are eval's.
    c.inform = ConfigDict()
    c.inform.data = ""  # a data plug-in; empty: the model's own data
    c.inform.words = True  # also bits of each word, where captions are known by parts
    c.inform.orders = False  # averaged over all orders of up to four words, not in theirs alone
    c.inform.candidates = 8  # captions that an image is held against; 0: all, and their mixture
    c.inform.negatives = 1  # captions that are wrong in one word, for each word
    c.inform.against = ""  # a run without text, for a second opinion on images without it
    c.inform.of = ""  # of a prior: a run of the images themselves, of which text tells more
    c.inform.pictures = 8  # images whose bits per pixel are drawn

    # Comparison of two runs by the same draws, those of eval; differences are b - a.
    c.compare = ConfigDict()
    c.compare.a = ""  # a work directory or checkpoint; of a cascade its stages, runs/low,runs/high
    c.compare.b = ""  # another

    # What a model remembers of its training images; samples and judge are those of quality.
    c.audit = ConfigDict()
    c.audit.bands = 8  # of noise levels, in which train and held-out images are compared
    c.audit.against = ""  # another run, trained on other images: do both draw the same?

    # Compression (compress, decompress, verify); the split and the weights are those of eval.
    c.compress = ConfigDict()
    c.compress.input = ""  # npz, png or folder of png; empty: the split. To decode: a .djz file;
    # empty: the newest in the work directory
    c.compress.output = ""  # the file to write; empty: in the work directory, by the step's name
    c.compress.verify = False  # compress: decode the file at once; decompress: write nothing
    c.compress.timesteps = 100  # T of the chain: more is smaller and slower
    c.compress.grid = ""  # where the steps are: dp(...), ...; empty: equal in the schedule's time
    c.compress.order = "auto"  # bitswap where the model has no encoder, else topdown
    c.compress.batch = 0  # images side by side: faster, more initial bits; 0: 8, or the file's
    c.compress.group = 1024  # images that share a stack: damage and initial bits are per group
    c.compress.labels = "auto"  # code (counted) where there are any, else null: the null class
    c.compress.limit = 0  # only the first N images; 0: all of them
    c.compress.seed = 0  # of the initial bits
    c.compress.compare = False  # also say what PNG, WebP and JPEG XL take
    c.compress.png = False  # decompress writes png files too

    # Quality of samples. Kind: features.
    c.quality = ConfigDict()
    c.quality.features = "pixels()"  # or classifier(checkpoint='DIR'), inception(weights='FILE')
    c.quality.metrics = ("frechet", "kid", "coverage")  # coverage: precision and recall as well
    c.quality.split = "train"  # of the data: the reference
    c.quality.reference = ""  # its npz from --mode=statistics; empty: computed, kept in the workdir
    c.quality.floor = "test"  # real images scored as if they were samples; empty: none
    c.quality.samples = ""  # npz with image (and label), or a folder of pictures; empty: drawn
    c.quality.repeats = 1  # sets of samples, with seeds sample.seed, sample.seed + 1, ...
    c.quality.judge = ""  # of texts: scenes(), names(), emoji(), icons(). Kind: judges
    c.quality.classifier = ""  # a classifier's work directory: class accuracy and histogram
    c.quality.clip = ""  # that of a CLIP, not the one that guides: how alike samples and texts are
    c.quality.nearest = "pixels()"  # features to find nearest training images by; empty: do not
    c.quality.batch = 256  # images per call of the features, over all devices
    c.quality.k = 3  # which neighbour bounds a neighbourhood in precision, recall, coverage
    c.quality.subset = 1000  # images, about, in a subset of kid
    c.quality.rows = 10_000  # images of the reference whose features are kept
    c.quality.seed = 0  # of subsets

    # Weights for others to open, and their card.
    c.export = ConfigDict()
    c.export.output = ""  # the folder to write, for example pretrained/mnist
    c.export.dtype = "float32"  # or bfloat16: half the size; measure says what it costs
    c.export.licence = ""  # of weights and data
    c.export.command = ""  # that trained them
    c.export.measure = True  # the figure on the card, as eval says, of what was written

    # The list of plug-ins.
    c.list = ConfigDict()
    c.list.kind = ""  # only these, for example samplers
    return c


def guide(data: str, task: str, steps: int) -> ConfigDict:
    """What the networks of noisy images that guidance follows have in common."""
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
    """What students of few steps have in common; their models are their teachers'."""
    c = base()
    c.data, c.task = data, task
    c.lr_decay, c.clip = "linear", 1.0
    c.optimizer = "adam(b2=0.99)"
    c.sample_every = 0
    c.sample.num, c.sample.batch = 100, 100
    return c


def variant(config: ConfigDict, name: str, smoke: str) -> ConfigDict:
    """Applies the part after the colon of `--config=FILE:smoke` to `config`, in place.

    `smoke` is the small network (or task) of that one-minute CPU version of the same path.
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
    """Splits `"NAME"`, `"NAME_smoke"` or `"smoke"`, the part after the colon, into name and smoke.

    An empty or absent name is `default`; one that is not in `names` raises `ConfigError`.
    """
    smoke = text == "smoke" or text.endswith("_smoke")
    name = (text.removesuffix("smoke").removesuffix("_") if smoke else text) or default
    if name not in names:
        raise ConfigError(
            f"unknown variant {text!r} after the colon of --config; allowed: "
            f"{', '.join(filter(None, names))}, each also with _smoke, or smoke"
        )
    return name, "smoke" if smoke else ""
