import os

# The models of the tests are tiny: threads would wait for each other longer than they compute.  Of processes that the
# tests start too, which share the machine with those of other tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

torch.set_num_threads(1)
