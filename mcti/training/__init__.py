"""Bags, losses, the loop, checkpoints and the search."""
