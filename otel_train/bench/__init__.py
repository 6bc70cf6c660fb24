"""Benchmarks of a training command: a matrix of settings in interleaved rounds, and sizes up to out of memory."""
