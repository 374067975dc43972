"""Cohorts: source tables of patients, expression and slides, labels, and folds."""
