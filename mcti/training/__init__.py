"""Training: losses, optimizers, training loop, checkpoints, recalibration and search of the settings."""
