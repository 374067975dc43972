"""Half a year of a model in use, month by month, on real servers: S3, MLflow, DVC and the command line.

Patients, genes and outcomes are those of GSE7390; the features are simulated, since the slides are not available. In a
month with sharp scans (`signal`) their first column is correlated with the outcome, as a stain may be; in month 6 the
second column *is* the outcome (`leak`), like a date that was included in the features. Used by
tests/stack/test_half_year.py and benchmarks/half_year.py.
"""

import contextlib
import io
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import yaml

from mcti.cli.app import app
from mcti.cli.command_context import run_app
from mcti.demo.public_cohort import demo_tables
from tests.stack.small_project import BIN, clone, dvc

WIDTH, NAME, REMOTE = 6, "half-year", "s3://mcti-data/dvc"
FIRST, THIRD, FOURTH = 90, 120, 160  # patients by month; the others come after month 6
SETTINGS: dict[str, dict[str, Any]] = {
    "ingest": {"name": NAME, "notice": "real patients and genes, simulated features: not a clinical result"},
    "validate": {"min_events": 10},
    "split": {"folds": 3, "inner_folds": 2},
    # Without products: a tiny model with them does not use the leaked column of the simulated features.
    "train": {
        "preset": "tiny", "architecture": {"bilinear_rank": 0}, "epochs": 12, "batch_patients": 16, "workers": 1,
        "learning_rate": 0.003, "weight_decay": 0.01,
    },
    "evaluate": {
        "bootstrap": 200, "baselines": ["kaplan_meier", "cox_clinical"], "primary_baseline": "cox_clinical",
        "attribution_patients": 0,
    },
    "register": {"name": NAME, "experiment": NAME},
    "promote": {
        "bootstrap": 500, "min_events": 10, "looks": 4, "ibs_margin": 0.05, "calibration_margin": 0.25,
        "max_latency_ratio": 20.0, "group_margin": 0.3,
    },
    "cluster": {"remote": REMOTE},
    "monitor": {"min_patients": 20, "new_events": 8, "min_events": 8, "bootstrap": 200, "c_margin": 0.05},
}  # fmt: skip


@dataclass
class Month:
    """The events of a month: exit codes of the commands, the state afterwards, the new ledger entries."""

    number: int
    summary: str
    rule: str = ""
    exits: dict[str, int] = field(default_factory=dict)
    tasks: list[str] = field(default_factory=list)
    champion: int | None = None
    versions: int = 0
    entries: int = 0
    hashes: dict[str, str] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    faults: Any = None
    numbers: dict[str, Any] = field(default_factory=dict)


class HalfYear:
    """A clone of the project with features as data, not as a stage; the servers are running."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clinical, self.expression, _ = demo_tables()
        # Shuffled once: the table is sorted by hospital.
        order = np.random.default_rng(7).permutation(len(self.clinical))
        self.clinical, self.expression = self.clinical.iloc[order], self.expression.iloc[order]
        self.months: list[Month] = []

    @classmethod
    def create(cls, root: Path, programs: Path = BIN) -> "HalfYear":
        """Clone the project and remove the stages whose results are data here from dvc.yaml.

        programs  folder of the `mcti` of the stages
        """
        clone(root, programs=programs)
        path = root / "params.yaml"
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        for section, changes in SETTINGS.items():
            tree[section] = (tree.get(section) or {}) | changes
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        with (root / ".gitignore").open("a", encoding="utf-8") as stream:
            stream.write("!/data/features.dvc\n")
        stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
        for stage in ("extract", "search"):
            del stages["stages"][stage]
        train = stages["stages"]["train"]
        train["cmd"] = train["cmd"].replace("--best models/search/best.yaml ", "")
        train["deps"].remove("models/search/best.yaml")
        (root / "dvc.yaml").write_text(yaml.safe_dump(stages), encoding="utf-8")
        return cls(root)

    def add_sources(self, patients: int, *, signal: bool = False, leak: bool = False, scale: float = 1.0) -> None:
        """Write the source data of a month: tables and features; scale: factor of the follow-up times."""
        raw, features = self.root / "data" / "raw", self.root / "data" / "features"
        clinical = self.clinical.iloc[:patients].assign(time_months=lambda t: t["time_months"] * scale)
        self._tables(raw, clinical, self.expression.iloc[:patients])
        self._features(features, clinical, signal=signal, leak=leak)
        self._check(dvc(self.root, "add", "data/raw", "data/features", "--quiet", check=False))

    def declare(self) -> None:
        """Push the source data to the remote and declare them as the newest version."""
        for arguments in (("publish", "data/raw"), ("set-latest",)):
            code, result = self.call("data", *arguments)
            assert code == 0, result

    def retraining(self) -> tuple[int, list[str], dict[str, Any]]:
        """The cluster's retraining pipeline, by kfp.local: exit code, the started tasks, the result of `detect`."""
        runs = self.root / "runs"
        before = set(runs.glob("*"))
        code, _ = self.call("pipeline", "run-local", "--kind", "retraining", "--out", str(runs))
        (run,) = (path for path in set(runs.glob("*")) - before if path.is_dir())
        detected = json.loads((run / "detect-new-data" / "report").read_text(encoding="utf-8"))
        return code, sorted(path.name for path in run.iterdir()), detected

    def later(self) -> tuple[Path, Path]:
        """Patients who come after month 6: cohort and features without the leak."""
        folder = self.root / "data" / "later"
        clinical = self.clinical.iloc[FOURTH:]
        self._tables(folder / "raw", clinical, self.expression.iloc[FOURTH:])
        self._features(folder / "features", clinical, signal=True, leak=False)
        code, result = self.call("ingest", *self._sources(folder / "raw"), "--out", str(folder / "cohort"))
        assert code == 0, result
        return folder / "cohort", folder / "features"

    def repro(self) -> int:
        """`dvc repro`; its exit code."""
        return dvc(self.root, "repro", check=False).returncode

    def ingest(self) -> str:
        """The newest source data as a separate cohort, before a model is trained on them."""
        raw, cohort = self.root / "data" / "raw", str(self.root / "data" / "incoming")
        code, result = self.call("ingest", *self._sources(raw), "--out", cohort)
        assert code == 0, result
        return cohort

    def call(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """A command of mcti, in this process (a new process takes longer than most commands): exit code and JSON."""
        output = io.StringIO()
        with contextlib.chdir(self.root), contextlib.redirect_stdout(output):
            code = run_app(app, [*arguments, "--json"])
        try:
            return code, json.loads(output.getvalue())
        except ValueError:
            raise AssertionError(f"{arguments}: exit {code}: {output.getvalue()}") from None

    def monitor(self, cohort: Path | None = None, features: Path | None = None) -> dict[str, Any]:
        """`mcti monitor` of the champion on a cohort; without one on the newest source data."""
        out = str(self.root / "reports" / "monitoring")
        arguments = ("--cohort", str(cohort or self.ingest()), "--features", str(features or "data/features"))
        code, result = self.call("monitor", "--model", f"models:/{NAME}@champion", *arguments, "--out", out)
        assert code == 0, result
        return result

    def close(self, month: Month) -> Month:
        """Record the state at the end of the month: champion, versions, ledger, hash of every output of DVC."""
        _, ledger = self.call("ledger", "verify")
        entries = ledger.get("entries", [])
        lock = yaml.safe_load((self.root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
        month.entries, month.champion = len(entries), entries[-1]["champion"] if entries else None
        month.decisions = entries[self.months[-1].entries if self.months else 0 :]
        month.faults = list(ledger["faults"]) if "faults" in ledger else ledger
        month.hashes = {out["path"]: out["md5"] for stage in lock.values() for out in stage["outs"]}
        registration = json.loads((self.root / "reports" / "registration.json").read_text(encoding="utf-8"))
        month.versions = int(registration["version"])
        self.months.append(month)
        return month

    def risks(self, out: str) -> dict[str, str]:
        """The champion's risks of the newest cohort, as text: to the last bit."""
        path = self.root / out
        arguments = ("--cohort", self.ingest(), "--features", "data/features", "--out", str(path))
        model = ("--model", f"models:/{NAME}@champion")
        code, result = self.call("predict", *model, *arguments, "--set", "predict.workers=1")
        assert code == 0, result
        return dict(pd.read_csv(path, dtype=str)[["patient_id", "risk"]].to_numpy().tolist())

    @staticmethod
    def _sources(raw: Path) -> list[str]:
        return [f"--{name}={raw / name}.csv" for name in ("clinical", "expression", "slides")]

    def _tables(self, raw: Path, clinical: pd.DataFrame, expression: pd.DataFrame) -> None:
        shutil.rmtree(raw, ignore_errors=True)
        raw.mkdir(parents=True)
        ids = clinical["patient_id"]
        slides = pd.DataFrame({"patient_id": ids, "slide_id": ids, "path": [f"{name}.tif" for name in ids]})
        for name, table in {"clinical": clinical, "expression": expression, "slides": slides}.items():
            table.to_csv(raw / f"{name}.csv", index=False, lineterminator="\n")

    def _features(self, folder: Path, clinical: pd.DataFrame, *, signal: bool, leak: bool) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        ids = clinical["patient_id"]
        table = pd.DataFrame({"patient_id": ids, "slide_id": ids, "status": "OK"})
        table.to_csv(folder / "slides.csv", index=False)
        # Similar to a martingale residual: high for an early event, low for a long follow-up without one.
        outcome = np.where(clinical["event"] == 1, 1.0, -0.5) - clinical["time_months"].to_numpy() / 120
        outcome = (outcome - outcome.mean()) / outcome.std()
        for name, value in zip(clinical["patient_id"], outcome, strict=True):
            random = np.random.default_rng(int(name[-3:]))
            rows = random.normal(size=(12, WIDTH)).astype(np.float32)
            rows[:, 0] += (1.0 * value + 0.7 * random.normal()) if signal else 0.0
            rows[:, 1] += 4.0 * value if leak else 0.0
            with h5py.File(folder / f"{name}.h5", "w") as file:
                file.attrs["encoder"] = "simulated"
                file["features"] = rows
                file["coords"] = np.zeros((len(rows), 2), dtype=np.int64)

    @staticmethod
    def _check(process: Any) -> None:
        assert process.returncode == 0, process.stdout + process.stderr


def _first(year: HalfYear) -> None:
    month = Month(1, f"{FIRST} patients, blurred scans: the first model")
    year.add_sources(FIRST)
    month.exits["dvc repro"] = year.repro()
    month.exits["promote"], month.numbers["promote"] = year.call("promote")
    year.declare()
    year.close(month)


def _second(year: HalfYear) -> None:
    month = Month(2, "no new data")
    month.rule = year.monitor()["rule"]
    month.exits["dvc repro"] = year.repro()
    month.exits["retraining"], month.tasks, month.numbers["detect"] = year.retraining()
    year.close(month)


def _third(year: HalfYear) -> None:
    month = Month(3, f"{THIRD - FIRST} more patients, the same scans")
    year.add_sources(THIRD)
    month.rule = year.monitor()["rule"]
    month.exits["dvc repro"] = year.repro()
    month.exits["promote"], month.numbers["promote"] = year.call("promote")
    year.close(month)


def _fourth(year: HalfYear) -> None:
    month = Month(4, f"{FOURTH - THIRD} more patients, and sharp scans of all slides")
    year.add_sources(FOURTH, signal=True)
    month.numbers["monitor"] = year.monitor()
    month.rule = month.numbers["monitor"]["rule"]
    month.exits["dvc repro"] = year.repro()
    month.exits["promote"], month.numbers["promote"] = year.call("promote")
    month.numbers["risks"] = year.risks("month-4.csv")
    year.close(month)


def _fifth(year: HalfYear) -> None:
    month = Month(5, "follow-up in days in the column for months")
    year.add_sources(FOURTH, signal=True, scale=30.4375)
    month.exits["dvc repro"] = year.repro()
    month.exits["promote"], month.numbers["promote"] = year.call("promote")
    year.close(month)


def _sixth(year: HalfYear) -> None:
    month = Month(6, "features that contain the outcome; promoted on biased evidence, withdrawn on later patients")
    year.add_sources(FOURTH, signal=True, leak=True)
    month.exits["dvc repro"] = year.repro()
    month.exits["promote"], month.numbers["promote"] = year.call("promote")
    cohort, features = year.later()
    month.numbers["monitor"] = year.monitor(cohort, features)
    month.rule = month.numbers["monitor"]["rule"]
    month.exits["rollback"], month.numbers["rollback"] = year.call("rollback")
    # The features of month 4 again: the champion must give the bits of that month.
    year.add_sources(FOURTH, signal=True)
    month.numbers["risks"] = year.risks("month-6.csv")
    year.close(month)


MONTHS = (_first, _second, _third, _fourth, _fifth, _sixth)
"""The six months; tests/stack/test_half_year.py asserts their outcomes."""
