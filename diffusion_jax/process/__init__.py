"""The diffusion process: schedules, encoders, decoders, parameterisations."""
