"""The steps: plain functions from paths to paths, one a file, called by every caller."""
