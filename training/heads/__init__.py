"""The network that trains: asymmetric LoRA on a FLUX, on any engine (paper, section 3.3)."""
