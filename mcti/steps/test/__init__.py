"""The step test: external validation of a frozen model on a cohort that it never saw."""
