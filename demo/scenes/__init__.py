"""The program that draws making-of sequences: what FLUX-nano learns from, and is measured against."""
