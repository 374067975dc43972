"""The network in pure torch: tensors only, no files."""
