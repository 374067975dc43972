"""The one-machine stack (S3, MLflow) and the demo that runs on it."""
