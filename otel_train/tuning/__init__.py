"""Finding settings by measurement: of a data loader, of a command's loaders, of a parallel job."""
