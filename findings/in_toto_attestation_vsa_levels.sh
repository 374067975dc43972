#!/usr/bin/env bash
# in-toto-attestation 0.9.3: the schema of a SLSA verification summary v1 has one text for verifiedLevels, where the
# specification has a list of texts, so the JSON of a valid summary cannot be read.
# Seen: ParseError: Failed to parse verifiedLevels field. Exits with 1 if that changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check in-toto-attestation==0.9.3 protobuf==6.33.6
"$scratch/venv/bin/python" - <<'PYTHON'
from google.protobuf import json_format
from in_toto_attestation.predicates.vsa.v1.vsa_pb2 import VerificationSummary

predicate = {
    "verifier": {"id": "https://example.com/verifier"},
    "timeVerified": "2026-01-01T00:00:00Z",
    "resourceUri": "https://example.com/artifact",
    "policy": {"uri": "https://example.com/policy"},
    "verificationResult": "PASSED",
    "verifiedLevels": ["SLSA_BUILD_LEVEL_3"],
}
try:
    json_format.ParseDict(predicate, VerificationSummary())
except json_format.ParseError as error:
    print("ParseError:", error)
else:
    raise SystemExit("the list is accepted")
json_format.ParseDict(predicate | {"verifiedLevels": "SLSA_BUILD_LEVEL_3"}, VerificationSummary())
print("one text is accepted")
PYTHON
