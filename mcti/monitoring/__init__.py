"""Monitoring of a model in use: drift from its training patients, rules of retraining, report and metrics."""
