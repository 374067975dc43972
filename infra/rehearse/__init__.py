"""`make rehearse`: the complete system on a Kubernetes cluster, step by step (docs/rehearsal.md)."""
