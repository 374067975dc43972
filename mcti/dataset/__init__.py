"""Model inputs from cohort and features, for training, evaluation and prediction: bags, covariates, fold splits."""
