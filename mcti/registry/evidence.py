"""What a version is judged by: the evaluation's numbers and files, kept with the version."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti import redaction, storage
from mcti.errors import DataError, OperationalError
from mcti.registry import compared, ensemble, lineage, mlflow_client, tracking

if TYPE_CHECKING:
    import pandas as pd

FOLDER, REGIMES = "evaluation", "regimes.csv"
OURS = "mcti"
_NEEDED = ("metrics.json", "predictions.csv", "groups.csv", "result.json")
_KEPT = (*_NEEDED, "summary.json", "baselines.csv", "excluded.csv", "report.html", "figures", "plots")
_COUNTS = ("patients", "events", "median_follow_up", "excluded", "warnings")


@dataclass(frozen=True)
class Evidence:
    """The evaluation in `reports` of the folds whose first `model.json` is `spec`."""

    reports: Path
    metrics: Mapping[str, Any]
    spec: Mapping[str, Any]
    data: Mapping[str, str]
    folds_sha256: str
    notice: str
    contract: str
    cohort: Mapping[str, Any]
    evaluated: Mapping[str, Any]
    regimes: "pd.DataFrame | None"
    md5: str

    @classmethod
    def read(cls, folds: Path, reports: Path, validation: Path | None = None) -> "Evidence":
        """Read and compare: the evaluated patients must be the folds' test patients.

        validation  what `mcti validate` wrote of the same cohort; contract: passed | failed, `unknown` without it;
                    cohort: its numbers and who left it for which reason, as counts
        evaluated   counts of the evaluated patients: patients, events, excluded {step: {reason: patients}}, median
                    follow-up (None: not reached), warnings
        regimes     out-of-fold predictions with a modality taken away, and what happened; None where no fold has any

        Raises
            DataError: a file is missing, or the evaluation is of other models.
        """
        for name in _NEEDED:
            if not (reports / name).exists():
                raise DataError(f"{name} is missing", str(reports), "run `mcti evaluate` first")
        folders = ensemble.fold_folders(folds)
        _same_risks(folders, reports / "predictions.csv")
        spec = storage.read_json(folders[0] / "model.json")
        metrics = storage.read_json(reports / "metrics.json")
        result = storage.read_json(reports / "result.json")
        contract, cohort = ("unknown", {}) if validation is None else _contract(validation, str(result["cohort_md5"]))
        with tempfile.TemporaryDirectory(prefix="mcti-redacted-") as scratch:
            md5 = _md5(contract, [_shown(reports / name, Path(scratch)) for name in _NEEDED])
        return cls(
            reports,
            metrics,
            spec,
            lineage.data_versions(folds),
            lineage.folds_sha256(folds),
            str(result["notice"]),
            contract,
            cohort,
            {name: result[name] for name in _COUNTS if name in result},
            _regimes(folders, reports),
            md5,
        )

    def score(self, model: str = OURS) -> Mapping[str, float]:
        """C-index of a model: value, low, high."""
        scores: Mapping[str, float] = self.metrics[model]["c_index"]
        return scores

    def log(self) -> None:
        """Settings, the figures that people compare, data versions and files (all metrics) into the active run."""
        import mlflow

        tracking.log_params(self.spec.get("params", {}))
        primary = storage.read_json(self.reports / "result.json").get("primary_baseline")
        mlflow.log_metrics(compared.figures(self.metrics, primary))
        for name, md5 in self.data.items():
            tracking.log_dataset(name, md5, {"patients": len(self.spec.get("patients", []))})
        kept = [self.reports / name for name in _KEPT if (self.reports / name).exists()]
        with tempfile.TemporaryDirectory(prefix="mcti-redacted-") as scratch:
            if self.regimes is not None:
                self.regimes.to_csv(Path(scratch) / REGIMES, index=False, lineterminator="\n")
                kept.append(Path(scratch) / REGIMES)
            shown = [_shown(path, Path(scratch)) for path in kept]
            tracking.log_files({path: f"{FOLDER}/{path.name}" if path.is_dir() else FOLDER for path in shown})


def fetch(run_id: str, name: str, scratch: Path, folder: str = FOLDER) -> Path:
    """One file or folder of the evaluation (or of `folder`) that is kept with a version's run.

    Raises
        DataError: the run has no such file.
        OperationalError: it has, and it cannot be fetched.
    """
    from mlflow.exceptions import MlflowException

    try:
        return mlflow_client.download(f"runs:/{run_id}/{folder}/{name}", scratch)
    except (MlflowException, OSError) as error:
        if name in names(run_id, folder):
            said = str(error).splitlines()[0]
            hint = "see the log of MLflow and of S3 and try again"
            raise OperationalError(f"{folder}/{name} cannot be fetched ({said})", f"run {run_id}", hint) from error
        raise DataError(f"{folder}/{name} is missing", f"run {run_id}", "register the model anew") from error


def md5_of(run_id: str, contract: str, scratch: Path) -> str:
    """The MD5 of the evidence that is kept with a version's run, from its files as they are now.

    Raises
        DataError: the run lacks one of them.
    """
    return _md5(contract, [fetch(run_id, name, scratch) for name in _NEEDED])


def _md5(contract: str, files: list[Path]) -> str:
    return storage.text_md5(contract + "".join(map(storage.md5, files)))


def names(run_id: str, folder: str = FOLDER) -> list[str]:
    """The names of the evaluation's files and folders (or of `folder`'s) that are kept with a version's run."""
    from mlflow import MlflowClient

    return [Path(item.path).name for item in MlflowClient().list_artifacts(run_id, folder)]


def predictions(path: Path) -> "pd.DataFrame":
    """A predictions file with every number as it was written, to the last bit."""
    import pandas as pd

    return pd.read_csv(path, dtype={"patient_id": str}, keep_default_na=False, float_precision="round_trip")


def _regimes(folders: list[Path], reports: Path) -> "pd.DataFrame | None":
    files = [folder / REGIMES for folder in folders]
    if not all(file.exists() for file in files):
        return None
    import pandas as pd

    outcome = predictions(reports / "predictions.csv")[["patient_id", "fold", "time_months", "event"]]
    return pd.concat([predictions(file) for file in files]).merge(outcome, on=["patient_id", "fold"])


def _contract(validation: Path, cohort_md5: str) -> tuple[str, dict[str, Any]]:
    results = storage.read_json(validation / "results.json")
    if results["md5"] != cohort_md5:
        what = f"the validation is of cohort {results['md5'][:8]}…, the evaluation of {cohort_md5[:8]}…"
        raise DataError(what, str(validation), "run `mcti validate` on the cohort that was evaluated")
    told = {name: results.get(name) for name in ("name", "endpoint", "expression_scale", "md5", "numbers", "warnings")}
    told["attrition"] = {reason: len(ids) for reason, ids in results.get("attrition", {}).items()}
    told["expectations"] = [
        {name: finding[name] for name in ("id", "description", "severity", "passed", "failing", "rows")}
        for finding in results.get("expectations", ())
    ]
    return "passed" if results["passed"] else "failed", told


def _shown(path: Path, scratch: Path) -> Path:
    """The file as it may leave: with `--redact` tables and the report get the hashes of their patients."""
    if not redaction.active() or path.suffix not in (".csv", ".html"):
        return path
    if path.suffix == ".html":
        redaction.register_ids(predictions(path.with_name("predictions.csv"))["patient_id"])
        (scratch / path.name).write_text(redaction.text(path.read_text(encoding="utf-8")), encoding="utf-8")
        return scratch / path.name
    import pandas as pd

    table = pd.read_csv(path, dtype=str, keep_default_na=False)  # as text: not a bit of a number may change
    table["patient_id"] = table["patient_id"].map(redaction.redact_id)
    table.to_csv(scratch / path.name, index=False, lineterminator="\n")
    return scratch / path.name


def _same_risks(folders: list[Path], evaluated: Path) -> None:
    import pandas as pd

    ours = pd.concat([predictions(folder / "predictions.csv") for folder in folders])
    theirs = predictions(evaluated)
    strangers = sorted(set(ours["patient_id"]) ^ set(theirs["patient_id"]))
    if strangers:
        raise DataError(
            f"patient {strangers[0]!r} is not in both the folds' and the evaluation's predictions",
            str(evaluated),
            "run `mcti evaluate` on these models",
        )
    if len(ours) == len(theirs):
        both = ours.merge(theirs, on=["patient_id", "fold"], suffixes=("_ours", "_theirs"))
        moved = both.loc[both["risk_ours"] != both["risk_theirs"], "patient_id"]
        if len(moved):
            what = f"the risk of patient {moved.iloc[0]!r} is not that of the fold's model"
            raise DataError(what, str(evaluated), "run `mcti evaluate` on these models")
