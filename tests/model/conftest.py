"""POT imports every supported array library at its first call, which takes seconds; the tests use NumPy and PyTorch."""

import os

for _backend in ("TENSORFLOW", "JAX", "CUPY"):
    os.environ.setdefault(f"POT_BACKEND_DISABLE_{_backend}", "1")
