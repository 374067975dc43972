#!/bin/sh
# mlflow 3.17.2, basic authentication: a password with a letter outside of ASCII is accepted on the routes of the
# registry and refused (401) on those of the artifacts, which decode the credentials as ASCII. Such a user can register
# a model and cannot read or write its files.
# Seen: "ascii: users 200, artifacts 200" / "other: users 200, artifacts 401". Exits with 0 as long as that is so.
set -eu
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "mlflow[auth]==3.17.2"
cat > "$folder/auth.ini" <<INI
[mlflow]
default_permission = READ
database_uri = sqlite:///$folder/users.db
admin_username = admin
admin_password = a-first-password
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
export MLFLOW_AUTH_CONFIG_PATH="$folder/auth.ini" MLFLOW_FLASK_SERVER_SECRET_KEY=0123456789 DO_NOT_TRACK=true
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/mlflow" server --app-name basic-auth --host 127.0.0.1 --port "$port" --workers 1 \
    --backend-store-uri "sqlite:///$folder/mlflow.db" --artifacts-destination "$folder/artifacts" > "$folder/log" 2>&1 &
server=$!
cat > "$folder/ask.py" <<'PYTHON'
import json
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode

BASE = f"http://127.0.0.1:{sys.argv[1]}"


def status(user, password, path, body=None):
    credentials = b64encode(f"{user}:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(BASE + path, data, headers), timeout=120) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


for _ in range(900):
    try:
        urllib.request.urlopen(BASE + "/health", timeout=10).close()
        break
    except OSError:
        time.sleep(1)
seen = {}
for user, password in (("ascii", "a-second-password"), ("other", "a-second-pässwörd")):
    assert status("admin", "a-first-password", "/api/2.0/mlflow/users/create",
                  {"username": user, "password": password}) == 200
    users = status(user, password, f"/api/2.0/mlflow/users/get?username={user}")
    artifacts = status(user, password, "/api/2.0/mlflow-artifacts/artifacts")
    print(f"{user}: users {users}, artifacts {artifacts}")
    seen[user] = (users, artifacts)
sys.exit(seen != {"ascii": (200, 200), "other": (200, 401)})
PYTHON
"$folder/venv/bin/python" "$folder/ask.py" "$port"
