"""A fake Kubeflow Pipelines API server: it stores the requests and validates them like the real one.

It serves the requests of the official SDK and of the official `kfp` program: health, experiments, runs, recurring
runs. `pipeline_spec` must be valid by kfp's schema (protobuf), and a cron expression must have six fields.
"""

import json
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

BASE = "/apis/v2beta1"
NOW = "2026-11-24T12:00:00Z"  # the tables that the official program prints need a time


class State:
    """The state of the server. With `refuse` every response has this status, with `instead` this body and type.

    logs    {name of a pod: its log};  sleep  seconds before each response
    unprocessed  number of reads of a new schedule before its controller has processed it
    """

    def __init__(self):
        self.experiments, self.runs, self.recurring, self.logs = {}, {}, {}, {}
        self.version, self.multi_user, self.instead, self.sleep = "2.17.0", False, None, 0
        self.requests = []  # (method, path, authorization)
        self.cookies = []
        self.refuse = 0
        self.unprocessed = 1


class Handler(BaseHTTPRequestHandler):
    """One request."""

    state: State

    def do_GET(self):
        path = self._record_request("GET")
        if path == f"{BASE}/healthz":
            build = {"commit_sha": "unknown", "tag_name": self.state.version, "multi_user": self.state.multi_user}
            return self._answer(build | {"pipeline_store": "database"})
        log = re.fullmatch(r"/apis/v1alpha1/runs/[^/]+/nodes/([^/]+)/log", path)
        if log:
            if log[1] not in self.state.logs:
                return self._answer({"error_message": f"Failed to read logs for run: pods {log[1]} not found"}, 500)
            return self._send(self.state.logs[log[1]].encode(), "text/plain", 200)
        resource, _, name = path.removeprefix(BASE + "/").partition("/")
        table = {"experiments": self.state.experiments, "runs": self.state.runs, "recurringruns": self.state.recurring}
        if resource not in table:
            return self._answer({"error": f"no route {path}"}, 404)
        if not name:
            key = "recurringRuns" if resource == "recurringruns" else resource
            return self._answer({key: list(table[resource].values()), "total_size": len(table[resource])})
        if name not in table[resource]:
            return self._answer({"error": "not found"}, 404)
        entry = table[resource][name]
        # As the server does: a value that is the default of its type is omitted.
        self._answer({key: value for key, value in entry.items() if value != "STATUS_UNSPECIFIED"})
        if resource == "recurringruns" and entry["status"] == "STATUS_UNSPECIFIED":
            self.state.unprocessed -= 1
            entry["status"] = entry["status"] if self.state.unprocessed > 0 else "ENABLED"
        return None

    def do_POST(self):
        path = self._record_request("POST")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        resource = path.removeprefix(BASE + "/")
        try:
            self._answer(getattr(self, f"_create_{resource}")(body))
        except (AssertionError, json_format.ParseError) as error:
            self._answer({"error": str(error)}, 400)

    def do_DELETE(self):
        path = self._record_request("DELETE")
        self.state.recurring.pop(path.rpartition("/")[2])
        self._answer({})

    def _create_experiments(self, body):
        created = {**body, "created_at": NOW, "experiment_id": f"experiment-{len(self.state.experiments)}"}
        return self.state.experiments.setdefault(created["experiment_id"], created)

    def _create_runs(self, body):
        validate(body["pipeline_spec"])
        created = {**body, "created_at": NOW, "run_id": f"run-{len(self.state.runs)}", "state": "RUNNING"}
        return self.state.runs.setdefault(created["run_id"], created)

    def _create_recurringruns(self, body):
        validate(body["pipeline_spec"])
        assert re.fullmatch(r"\S+( \S+){5}", body["trigger"]["cron_schedule"]["cron"]), "six fields, seconds first"
        count = sum(method == "POST" and path.endswith("recurringruns") for method, path, _ in self.state.requests)
        # As the server does: without a mode a recurring run is disabled, and one that is enabled has no status at first
        # (kubeflow/pipelines, resource_manager.go, CreateJob: the condition of an object that has none).
        status = "STATUS_UNSPECIFIED" if body.get("mode") == "ENABLE" else "DISABLED"
        created = {**body, "created_at": NOW, "recurring_run_id": f"recurring-{count}", "status": status}
        return self.state.recurring.setdefault(created["recurring_run_id"], created)

    def _record_request(self, method):
        path = urlparse(self.path).path
        self.state.requests.append((method, path, self.headers.get("Authorization")))
        self.state.cookies.append(self.headers.get("Cookie"))
        time.sleep(self.state.sleep)
        if self.state.instead is not None:
            self._send(*self.state.instead)
            raise ConnectionAbortedError
        if self.state.refuse:
            self._answer({"error": "refused"}, self.state.refuse)
            raise ConnectionAbortedError
        return path

    def _answer(self, body, status=200):
        self._send(json.dumps(body).encode(), "application/json", status)

    def _send(self, data, resource, status):
        self.send_response(status)
        self.send_header("Content-Type", resource)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except ConnectionAbortedError:
            self.close_connection = True

    def log_message(self, *arguments):
        """Write no log."""


def validate(sent):
    """Parse a compiled pipeline by the server's schema: unknown fields and wrong types are errors."""
    pipeline = json_format.ParseDict(sent["pipeline_spec"], pipeline_spec_pb2.PipelineSpec())
    platform = json_format.ParseDict(sent["platform_spec"], pipeline_spec_pb2.PlatformSpec())
    executors = pipeline.deployment_spec["executors"]
    for name in executors:
        json_format.ParseDict(
            json_format.MessageToDict(executors[name]), pipeline_spec_pb2.PipelineDeploymentConfig.ExecutorSpec()
        )
    assert set(platform.platforms["kubernetes"].deployment_spec.executors) == set(executors)


@contextmanager
def serving(tls=None):
    """(address, state) of a running fake server; `tls`: the SSL context of the server for HTTPS."""
    state = State()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}", state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
