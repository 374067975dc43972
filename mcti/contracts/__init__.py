"""Data contracts: what a cohort must satisfy before anything is trained on it."""
