"""The network in pure torch: it knows tensors, not files."""
