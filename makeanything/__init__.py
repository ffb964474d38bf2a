"""The MakeAnything method (arXiv 2502.01572): serpentine grids, asymmetric LoRA and ReCraft.  Knows no host."""
