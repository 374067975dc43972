#!/bin/sh
# mlflow 3.17.2, server with SQLite: of concurrent `set_tag` requests for one new tag of a run, with one value, all but
# one can fail with BAD_REQUEST (UNIQUE constraint failed: tags.key, tags.run_uuid). `log_batch` with the same tag
# repeats the insertion, and all requests succeed. Tasks of one pipeline that tag the run they share meet this.
# Seen: "set_tag: refused in some of 20 rounds" / "log_batch: refused in none of 20 rounds". Exits with 0 as long as that
# is so.
set -eu
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check mlflow==3.17.2
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cd "$folder"
DO_NOT_TRACK=true "$folder/venv/bin/mlflow" server --workers 1 --host 127.0.0.1 --port "$port" \
    --backend-store-uri "sqlite:///$folder/mlflow.db" --artifacts-destination "$folder/artifacts" >"$folder/log" 2>&1 &
server=$!
trap 'kill "$server"; wait "$server" || true; rm -rf "$folder"' EXIT
cat > "$folder/tags.py" <<'PYTHON'
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

ROUNDS, REQUESTS = 20, 4
uri = f"http://127.0.0.1:{sys.argv[1]}"
for _ in range(120):
    try:
        urllib.request.urlopen(f"{uri}/health", timeout=5).read()
        break
    except OSError:
        time.sleep(1)
client = MlflowClient(uri)
run = client.create_run("0").info.run_id


def refused(set_tag, name):
    """The number of rounds in which a request failed, and the errors."""
    rounds, errors = 0, set()
    for number in range(ROUNDS):
        together = Barrier(REQUESTS)

        def request(_):
            together.wait()
            try:
                set_tag(f"{name}.{number}")
            except MlflowException as error:
                return f"{error.error_code} {'UNIQUE constraint failed' in str(error)}"

        with ThreadPoolExecutor(REQUESTS) as pool:
            found = {error for error in pool.map(request, range(REQUESTS)) if error}
        rounds, errors = rounds + bool(found), errors | found
    return rounds, errors


single, errors = refused(lambda key: client.set_tag(run, key, "true"), "single")
batch, _ = refused(lambda key: client.log_batch(run, tags=[RunTag(key, "true")]), "batch")
print(f"set_tag: refused in {'some' if single else 'none'} of {ROUNDS} rounds")
print(f"log_batch: refused in {'some' if batch else 'none'} of {ROUNDS} rounds")
sys.exit(0 if single and not batch and errors == {"BAD_REQUEST True"} else 1)
PYTHON
"$folder/venv/bin/python" "$folder/tags.py" "$port"
