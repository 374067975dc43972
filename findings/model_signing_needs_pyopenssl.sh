#!/usr/bin/env bash
# model-signing 1.1.1 imports OpenSSL (pyOpenSSL), which none of its requirements installs: sigstore 4.5.1, which earlier
# versions brought it with, does not depend on it. A plain installation cannot be imported.
# Seen: ModuleNotFoundError: No module named 'OpenSSL'. Exits with 1 if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check model-signing==1.1.1 sigstore==4.5.1
output=$("$scratch/venv/bin/python" -c 'import model_signing.signing' 2>&1 || true)
echo "$output" | tail -1
grep -q "No module named 'OpenSSL'" <<<"$output"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check pyopenssl==26.4.0
"$scratch/venv/bin/python" -c 'import model_signing.signing; print("with pyOpenSSL it is imported")'
