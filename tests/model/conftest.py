"""POT looks for every array library it knows at its first call, for twenty seconds; these tests hand it NumPy only."""

import os

for _backend in ("PYTORCH", "TENSORFLOW", "JAX", "CUPY"):
    os.environ.setdefault(f"POT_BACKEND_DISABLE_{_backend}", "1")
