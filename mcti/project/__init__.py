"""A project of a team: settings, stages and deployment files for its own cohort; mcti is an installed package in it."""
