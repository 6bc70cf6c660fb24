"""What is read from outside the training, one source a file. The only place that imports psutil and pynvml."""
