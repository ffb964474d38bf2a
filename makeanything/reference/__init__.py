"""FLUX without ComfyUI, for the demo, the built-in trainer and the tests.  ComfyUI never needs it."""
