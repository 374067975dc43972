"""Monitoring of a model in use: drift from the training patients, retraining rules, report and metrics."""
