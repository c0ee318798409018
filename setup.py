"""The metadata are in setup.cfg; here is what it cannot say: `configs/` goes into the package."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["diffusion_jax", "diffusion_jax.*"]),
        "diffusion_jax.configs",
    ],
    package_dir={"diffusion_jax.configs": "configs"},
)
