"""The demo: from nothing to a promoted champion on real servers, resumable at any moment (docs/stack.md)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mcti import params, storage
from mcti.demo import raw_data
from mcti.errors import NotEnoughEvidence, Rejected, UsageError
from mcti.local import dvc_program, servers, stack
from mcti.model.names import PARTS
from mcti.params import Settings
from mcti.progress import Progress
from mcti.registry import models, tracking
from mcti.steps.promote.step import promote

Say = Callable[[str], None]
MARKER = "MCTI_DEMO"
_RAW = Path("data/raw")
_EVALUATION = Path("reports/evaluation")
_REGISTRATION = Path("reports/registration.json")


class DemoResult(BaseModel):
    """What the demo ends with; `changed` is false when everything stood as it was."""

    model_config = ConfigDict(frozen=True)
    changed: bool
    cohort: str
    notice: str
    c_index: dict[str, str]
    model: str
    report: str
    mlflow: str

    def lines(self) -> list[str]:
        """Ten lines for people."""
        rivals = {name: value for name, value in self.c_index.items() if name not in ("mcti", *PARTS)}
        baselines = " · ".join(f"{name} {value}" for name, value in rivals.items())
        return [
            "done: what had changed was run" if self.changed else "nothing changed: every stage is up to date",
            f"cohort     {self.cohort}",
            f"notice     {self.notice}",
            f"C-index    mcti {self.c_index['mcti']}, 95 % interval",
            f"baselines  {baselines}",
            f"model      {self.model}",
            f"report     {self.report}",
            f"MLflow     {self.mlflow}",
            "stop       make stop",
            "your data  README, “Your own cohort”: three tables, one block of params.yaml, then `dvc repro`",
        ]


def demo(root: Path, say: Say, progress: Progress = lambda *_: None, patients: int | None = None) -> DemoResult:
    """Stack, demo cohort, `dvc repro`, `dvc push`, promotion; goes on where an earlier run was cut.

    `patients` limits the cohort to the first so many, for tests.

    Raises
        UsageError: `root` is no checkout of the project.
        OperationalError: another demo runs here, a server or the disk is in the way.
    """
    root = Path(root).resolve()
    if not (root / "dvc.yaml").is_file():
        raise UsageError("no dvc.yaml", str(root), "run the demo in a checkout of the project")
    with stack.locked(root / stack.FOLDER / "demo.lock", "mcti demo"):
        # Under the lock, whatever carries the mark was left behind by a demo that was killed.
        servers.stop(servers.marked_processes(root, MARKER))
        try:
            return _run(root, say, progress, patients)
        finally:
            servers.stop(servers.marked_processes(root, MARKER))


def _run(root: Path, say: Say, progress: Progress, patients: int | None) -> DemoResult:
    say("1/6  servers")
    running = stack.up(root, say)
    settings = params.load(root / "params.yaml")
    say("2/6  cohort: real patients and genes, painted slides")
    if raw_data.make(root / _RAW, patients, progress) or not (root / "data" / "raw.dvc").exists():
        _dvc(root, "add", str(_RAW), quiet=True)
    say("3/6  dvc repro: eight stages")
    before = _digest(root / "dvc.lock")
    _dvc(root, "repro")
    changed = before != _digest(root / "dvc.lock")
    say("4/6  registry")
    _make_registered(root)
    say("5/6  dvc push")
    _dvc(root, "push", quiet=True)
    say("6/6  promotion")
    decision = _promote(settings)
    return _result(root, running.mlflow, decision, changed)


def _dvc(root: Path, *arguments: str, quiet: bool = False) -> None:
    dvc_program.run(root, *arguments, quiet=quiet, marks={MARKER: str(root)})


def _make_registered(root: Path) -> None:
    """Register again when the registry does not have what DVC believes to be registered: the stack may be new."""
    said = storage.read_json(root / _REGISTRATION)
    with tracking.service() as client:
        found = models.version_by_digest(client, said["name"], said["digest"])
    if found is None:
        _dvc(root, "repro", "--force", "--single-item", "register")


def _promote(settings: Settings) -> str:
    name = settings.register_.name
    try:
        result = promote(name, settings.promote)
    except (Rejected, NotEnoughEvidence) as refusal:
        return f"{name}: {refusal.code}: {refusal.what}"
    return f"{name} version {result.version}, alias champion ({result.reason})"


def _result(root: Path, mlflow: str, decision: str, changed: bool) -> DemoResult:
    cohort = storage.read_json(root / "data/cohort/cohort.json")
    scores = storage.read_json(root / _EVALUATION / "metrics.json")
    counts = cohort["counts"]
    return DemoResult(
        changed=changed,
        cohort=f"{cohort['name']}: {counts['patients']} patients, {counts['events']} events, {counts['genes']} genes, "
        f"{counts['slides']} slides",
        notice=cohort["notice"],
        c_index={name: _interval(numbers["c_index"]) for name, numbers in scores.items()},
        model=decision,
        report=str(root / _EVALUATION / "report.html"),
        mlflow=mlflow,
    )


def _interval(numbers: dict[str, Any]) -> str:
    value, low, high = (numbers[name] for name in ("value", "low", "high"))
    return f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else "")


def _digest(path: Path) -> str:
    return storage.md5(path) if path.exists() else ""
