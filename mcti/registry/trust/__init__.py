"""Signatures of a model version: keys, statements, verification, and the bundle for a site without a network."""
