"""How a run is sampled, and images are edited.

`run_sampler` checks a run and compiles its sampler: `compiled_sampler.Drawing`, one for each stage,
which calls `diffusion_jax.sampling.generate` with the `sampling_method` that the settings name and
whatever the network is told (`low_images`, `priors`). `samples` are images to be measured, drawn
or read.
"""
