"""The run's measures in the run that the user already has open in an experiment tracker: one file each."""
