"""One history: clients and faults on a running stack, and the check of what they recorded."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mcti import s3
from mcti.registry import ledger, promotion, tracking
from tests.histories import clients
from tests.histories.clients import VERSIONS, Client
from tests.histories.evaluation import Verdict, evaluate

FAULTS = ("kill", "pause", "partition", "lost replies", "server pause")
_S3, _MLFLOW = 0, 1  # targets of the proxy
_MAX_SKEW_SECONDS = 200.0


@dataclass
class History:
    """Settings of one history.

    promoters, operators, readers  numbers of clients
    seconds   duration with faults;  faults: kinds that occur
    servers   process ids of S3 and MLflow, which are suspended for parts of a second
    planted   a fault of the product, by its name in `clients.PLANTED`;  skewed  whether clocks differ
    """

    seed: int
    folder: Path
    servers: tuple[int, ...] = ()
    promoters: int = 3
    operators: int = 1
    readers: int = 2
    seconds: float = 6.0
    faults: tuple[str, ...] = FAULTS
    planted: str = ""
    skewed: bool = True
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def clients(self) -> int:
        """Number of clients at a time."""
        return self.promoters + self.operators + self.readers

    @property
    def model(self) -> str:
        """Name of the registered model."""
        return f"history-{self.seed}{'-' + self.planted.replace(' ', '-') if self.planted else ''}"


def run(history: History, proxy: "Proxy") -> Verdict:
    """Run a history on the stack that the environment names, and check it. proxy: with a link per client."""
    history.folder.mkdir(parents=True)
    _create_model(history.model)
    roles = ["promoter"] * history.promoters + ["operator"] * history.operators + ["reader"] * history.readers
    _Nemesis(history, roles, proxy).run()
    with tracking.service() as service:
        entries = ledger.read(history.model)
        faults = promotion.chain_faults(service, history.model, entries)
        if not faults:
            promotion.repair(service, history.model)  # completes an interrupted promotion
            faults = promotion.find_faults(service, history.model, entries)
    records = [json.loads(line) for path in sorted(history.folder.glob("*.jsonl")) for line in _lines(path)]
    return evaluate(records, entries, faults, dict(history.counts))


def _lines(path: Path) -> list[str]:
    """The complete lines; a killed client may leave a part of one."""
    return [line for line in path.read_text().split("\n")[:-1] if line]


def _create_model(name: str) -> None:
    import requests

    def post(endpoint: str, body: dict[str, Any]) -> None:
        address = f"{os.environ['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/{endpoint}/create"
        requests.post(address, json=body, timeout=120).raise_for_status()

    post("registered-models", {"name": name})
    for number in VERSIONS:
        post("model-versions", {"name": name, "source": f"s3://mcti-mlflow/history/{number}"})


class Proxy:
    """The proxy process, for any number of histories.

    links         number of clients at a time
    environments  the addresses of both services by link
    """

    def __init__(self, links: int) -> None:
        addresses = (os.environ["AWS_ENDPOINT_URL_S3"], os.environ["MLFLOW_TRACKING_URI"])
        targets = [urlsplit(address).netloc for address in addresses]
        command = [sys.executable, "-m", "tests.histories.tcp_proxy", *targets, "--links", str(links)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        ports = json.loads(self._process.stdout.readline())
        self.environments = [
            {
                "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ports[_S3][link]}",
                "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports[_MLFLOW][link]}",
            }
            for link in range(links)
        ]
        _prepare_clients(self.environments)

    def set(self, link: int, target: int, mode: str) -> None:
        """Set the mode of a link (tcp_proxy.py)."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{link} {target} {mode}\n")
        self._process.stdin.flush()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate("", timeout=600)


def _prepare_clients(environments: list[dict[str, str]]) -> None:
    """Create the S3 client of each link before the fork: it takes half a second, and this process does not use it."""
    with clients.limited_waiting() as limits:
        for environment in environments:
            os.environ.update(environment)
            s3.client()
            environment.update(limits)


class _Nemesis:
    """Starts the clients, injects faults until the time is over, and waits for the clients that live."""

    def __init__(self, history: History, roles: list[str], proxy: Proxy) -> None:
        self._history, self._roles, self._proxy = history, roles, proxy
        self._draw = random.Random(history.seed)
        self._end = time.monotonic() + history.seconds
        self._started = 0
        self._running = [self._start(link) for link in range(len(roles))]

    def run(self) -> None:
        """Inject faults one after the other."""
        actions = {
            "kill": self._kill, "pause": self._pause, "partition": self._partition, "lost replies": self._lose_replies,
            "server pause": self._pause_server,
        }  # fmt: skip
        while time.monotonic() < self._end:
            time.sleep(self._draw.uniform(0.05, 0.6))
            if self._history.faults:
                fault = self._draw.choice(self._history.faults)
                self._history.counts[fault] += 1
                actions[fault]()
        for process in self._running:
            process.join()

    def _start(self, link: int) -> ForkProcess:
        """A new client on a link, with the time that remains."""
        self._started += 1
        history, environment = self._history, self._proxy.environments[link]
        client = Client(
            number=self._started, role=self._roles[link], model=history.model,
            log=history.folder / f"{self._started:03d}.jsonl", environment=environment,
            seconds=max(self._end - time.monotonic(), 0.5), seed=self._draw.getrandbits(32), planted=history.planted,
            skew=self._draw.uniform(-_MAX_SKEW_SECONDS, _MAX_SKEW_SECONDS) if history.skewed else 0.0,
        )  # fmt: skip
        process = multiprocessing.get_context("fork").Process(target=clients.run, args=(client,))
        process.start()
        return process

    def _kill(self) -> None:
        link = self._draw.randrange(len(self._roles))
        self._running[link].kill()
        self._running[link].join()
        self._running[link] = self._start(link)

    def _pause(self) -> None:
        process = self._running[self._draw.randrange(len(self._roles))]
        self._suspend(process.pid, self._draw.uniform(0.3, 2.0))

    def _pause_server(self) -> None:
        if self._history.servers:
            self._suspend(self._draw.choice(self._history.servers), self._draw.uniform(0.1, 0.8))

    def _suspend(self, pid: int | None, seconds: float) -> None:
        assert pid is not None
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)

    def _partition(self) -> None:
        targets = self._draw.choice([[_S3], [_MLFLOW], [_S3, _MLFLOW]])
        links = self._draw.sample(range(len(self._roles)), self._draw.randint(1, len(self._roles) - 1))
        self._set(links, targets, "cut")
        time.sleep(self._draw.uniform(0.3, 2.0))
        self._set(links, targets, "pass")

    def _lose_replies(self) -> None:
        """The reply to the next write of some clients is lost, whenever it comes."""
        target = self._draw.choice([_S3, _S3, _MLFLOW])
        for link in self._draw.sample(range(len(self._roles)), self._draw.randint(1, len(self._roles))):
            self._proxy.set(link, target, "deaf")

    def _set(self, links: list[int], targets: list[int], mode: str) -> None:
        for link in links:
            for target in targets:
                self._proxy.set(link, target, mode)
