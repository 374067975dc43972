"""What a model in use is watched by: drift from its training patients, rules of retraining, page and gauges."""
