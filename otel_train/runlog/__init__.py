"""The run log: the files that a training run leaves, and everything that knows their layout."""
