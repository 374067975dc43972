"""The demo: the complete run on real servers, up to a promoted champion; it can be resumed at any point."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mcti import params, storage
from mcti.demo import raw_data
from mcti.errors import NotEnoughEvidence, Rejected, UsageError
from mcti.local import dvc_program, servers, stack
from mcti.model.names import PARTS, display
from mcti.params import Settings
from mcti.progress import Progress
from mcti.project import create, files
from mcti.registry import models, tracking
from mcti.steps.promote.step import promote

Announce = Callable[[str], None]
"""Shows one line of status to the user."""
MARKER = "MCTI_DEMO"
_NAME = "mcti-demo"
_RAW = Path("data/raw")
_EVALUATION = Path("reports/evaluation")
_REGISTRATION = Path("reports/registration.json")


class DemoResult(BaseModel):
    """The result of the demo; `changed` is false when every stage was up to date.

    c_index     {model: C-index of the out-of-fold risks with its 95 % interval, as text}
    """

    model_config = ConfigDict(frozen=True)
    changed: bool
    cohort: str
    notice: str
    c_index: dict[str, str]
    model: str
    report: str
    mlflow: str

    def lines(self) -> list[str]:
        """Ten lines for the terminal."""
        others = {name: value for name, value in self.c_index.items() if name not in ("mcti", *PARTS)}
        baselines = " · ".join(f"{display(name)} {value}" for name, value in others.items())
        return [
            "done: the changed stages were run" if self.changed else "nothing changed: every stage is up to date",
            f"cohort     {self.cohort}",
            f"notice     {self.notice}",
            f"C-index    {display('mcti')} {self.c_index['mcti']}, 95 % interval",
            f"baselines  {baselines}",
            f"model      {self.model}",
            f"report     {self.report}",
            f"MLflow     {self.mlflow}",
            "stop       mcti stack down",
            "your data  mcti init DIR --clinical … --expression … --slides … (README, “Your own cohort”)",
        ]


def demo(
    root: Path, announce: Announce, progress: Progress = lambda *_: None, patients: int | None = None
) -> DemoResult:
    """Start the stack, write the demo cohort, run `dvc repro` and `dvc push`, and promote the model.

    An empty folder becomes a project first, as by `mcti init`; in a checkout the demo uses its files. An interrupted
    demo is resumed. `patients` limits the cohort to its first patients, for tests.

    Raises
        UsageError when `root` is neither empty nor a project, or has source tables of another cohort.
        OperationalError when another demo is running, or a server or the disk is not available.
    """
    root = Path(root).resolve()
    _check_folder(root)
    with stack.locked(root / stack.FOLDER / "demo.lock", "mcti demo"):
        # With the lock held, processes with the marker belong to a demo that was killed.
        servers.stop(servers.marked_processes(root, MARKER))
        try:
            if not (root / "dvc.yaml").is_file():
                create.create(root, _NAME, files.demo_params())
            return _run(root, announce, progress, patients)
        finally:
            servers.stop(servers.marked_processes(root, MARKER))


def _check_folder(root: Path) -> None:
    if not (root / "dvc.yaml").is_file() and not create.is_empty(root):
        raise UsageError("no dvc.yaml", str(root), "run the demo in an empty folder, or in a checkout of mcti")
    if (root / _RAW / "clinical.csv").exists() and not raw_data.is_demo(root / _RAW):
        raise UsageError("source tables of another cohort", str(root / _RAW), "run the demo in an empty folder")


def _run(root: Path, announce: Announce, progress: Progress, patients: int | None) -> DemoResult:
    announce("1/6  servers")
    running = stack.up(root, announce)
    settings = params.load(root / "params.yaml")
    announce("2/6  cohort: real patients and genes, painted slides")
    if raw_data.write(root / _RAW, patients, progress) or not (root / "data" / "raw.dvc").exists():
        _dvc(root, "add", str(_RAW), quiet=True)
    announce("3/6  dvc repro: all stages")
    before = _digest(root / "dvc.lock")
    _dvc(root, "repro")
    changed = before != _digest(root / "dvc.lock")
    announce("4/6  registry")
    _register_if_missing(root)
    announce("5/6  dvc push")
    dvc_program.push(root, {MARKER: str(root)})
    announce("6/6  promotion")
    decision = _promote(settings)
    return _result(root, running.mlflow, decision, changed)


def _dvc(root: Path, *arguments: str, quiet: bool = False) -> None:
    dvc_program.run(root, *arguments, quiet=quiet, environment={MARKER: str(root)})


def _register_if_missing(root: Path) -> None:
    """Run the stage register again when the registry lacks its model, as in a new stack; DVC considers it done."""
    registration = storage.read_json(root / _REGISTRATION)
    with tracking.service() as client:
        version = models.version_by_digest(client, registration["name"], registration["digest"])
    if version is None:
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
