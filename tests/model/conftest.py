"""POT imports every supported array library at its first call, which takes twenty seconds; these tests use NumPy."""

import os

for _backend in ("PYTORCH", "TENSORFLOW", "JAX", "CUPY"):
    os.environ.setdefault(f"POT_BACKEND_DISABLE_{_backend}", "1")
