"""`make rehearse`: the whole system on a cluster, step by step (docs/rehearsal.md)."""
