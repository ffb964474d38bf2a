"""Ways to apply an update: merged into the weights, computed beside them, or the better one for how they are stored."""

AUTO, PATCH, BRANCH = "auto", "patch", "branch"
