"""Explanations of single predictions: gene sets, clusters of patches, the page for people (docs/explain.md)."""
