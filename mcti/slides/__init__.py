"""Whole-slide images: inventory, tissue detection, tiles, features and heatmaps."""
