"""Kubeflow pipelines: order and resources of the tasks, and the commands that act on a cluster (docs/kubeflow.md)."""
