"""Imported by the scripts beside it."""

LEARNING_RATE = 0.1
