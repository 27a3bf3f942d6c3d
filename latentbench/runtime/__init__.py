"""What a run needs around the training: its directory, checkpoints, logs, progress, provenance."""
