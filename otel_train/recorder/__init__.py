"""What the training thread runs. ``hot_path`` has the meaning of everything that a script can do with scopes."""
