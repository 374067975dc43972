"""Whole-slide images: inventory, tissue, tiles, features, heatmaps."""
