"""Experiments with FLUX-nano: many sequences drawn and judged."""
