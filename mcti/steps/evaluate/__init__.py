"""The step evaluate: out-of-fold risks of the trained models against the baselines."""
