"""Secrets and ConfigMaps that a task may reference, with their keys: those of infra/, runbook and docs/kubeflow.md."""

SECRETS: dict[str, frozenset[str]] = {
    "mcti-s3": frozenset({"access_key", "secret_key"}),
    "mcti-postgresql": frozenset({"user", "password", "mlflow_uri", "search_uri"}),
    "mcti-mlflow": frozenset({"user", "password"}),
    "mcti-search": frozenset({"password"}),
}
CONFIG_MAPS: dict[str, frozenset[str]] = {
    "mcti-services": frozenset({"s3", "mlflow"}),
    "mcti-buckets": frozenset({"artifacts", "backup"}),
}
