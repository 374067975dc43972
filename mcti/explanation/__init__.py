"""Explanations of single predictions: gene sets, clusters of patches, HTML and PDF reports (docs/explain.md)."""
