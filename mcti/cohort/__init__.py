"""Patients, expression and slides as tables: where they come from, their labels, their folds."""
