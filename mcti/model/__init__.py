"""The networks, transport solvers and attribution in PyTorch, without access to files."""
