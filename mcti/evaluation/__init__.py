"""Metrics, baselines, paired comparisons, figures and the report."""
