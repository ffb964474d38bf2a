"""Ways to apply an update: in the weights, beside them, or whichever suits how the weights are stored."""

AUTO, PATCH, BRANCH = "auto", "patch", "branch"
