"""Pipelines of components: what runs after what, on which machines (docs/kubeflow.md)."""
