"""Cohort and features as training, evaluation and prediction read them: bags of patches, covariates, fold splits."""
