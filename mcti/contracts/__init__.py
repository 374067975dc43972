"""The data contract: expectations that a cohort must meet before a model is trained on it."""
