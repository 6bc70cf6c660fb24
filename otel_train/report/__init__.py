"""The report of a run: one renderer a file, each from the same ``RunSummary``."""
