"""Evaluation: metrics, baselines, paired comparisons, figures and the report."""
