"""The services on one machine: SeaweedFS as S3, MLflow, and the matching configuration of DVC."""
