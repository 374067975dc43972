"""Cohort and features as what training, evaluation and prediction read: bags of patches, covariates, folds."""
