"""The built-in loop, for models that fit: what a run is, its data as latents, its steps and its state."""
