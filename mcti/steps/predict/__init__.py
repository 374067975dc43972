"""The step predict: risk and survival of patients by a registered model."""
