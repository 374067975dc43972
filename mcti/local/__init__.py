"""The one-machine stack: SeaweedFS as S3, MLflow, and DVC configured for them."""
