"""Sampling of runs, and editing of images.

`run_sampler` checks a run and compiles its sampler: a `compiled_sampler.Drawing` for each stage,
which calls `diffusion_jax.sampling.generate` with the `sampling_method` of the settings and the
conditioning of the network (`low_images`, `priors`). `samples` draws or reads images for
evaluation.
"""
