"""tiny_run for heads, whose noise is made of the pictures themselves: the same in one process and in several.

python steady_run.py ARGUMENTS
"""

import os
import sys
from pathlib import Path

import tiny_run
import torch

if __name__ == "__main__":
    sys.path += [str(tiny_run.ROOT), str(Path(os.environ["SD_SCRIPTS_PATH"]).expanduser())]
    torch.set_num_threads(1)
    tiny_run.shrink()
    torch.randn_like = lambda tensor, **_: tensor.flip(-1)
    from training import train_heads

    train_heads.main(sys.argv[1:])
