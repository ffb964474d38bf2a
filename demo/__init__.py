"""FLUX-nano: a miniature FLUX, its synthetic making-of sequences, and the demo that shows the method."""
