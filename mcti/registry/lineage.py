"""Where a model comes from: the commit of the code and the MD5s of the data."""

import hashlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import mcti
from mcti import storage
from mcti.errors import DataError

UNKNOWN = "unknown"
DIRTY = "-dirty"
CHANGED = "mcti.changed"
"""Tag of a version of a dirty working tree: the files that differed from the commit."""
SETTINGS = ("params.yaml", "dvc.yaml")
SOURCE = "mcti.data.source"
"""Tag of a model version: the MD5 of the folder of source tables and slides, where a pipeline pinned one."""
KFP_RUN = "mcti.kfp_run"
"""Tag of everything that came of a pipeline run: its id in Kubeflow Pipelines."""


@dataclass(frozen=True)
class Origin:
    """The pipeline run that a version comes from; "" where something is not known.

    run     id of the run in Kubeflow Pipelines;  pipeline  its name and the SHA-256 of its definition
    data    MD5 of the folder of sources
    """

    run: str = ""
    pipeline: str = ""
    data: str = ""

    def tags(self) -> dict[str, str]:
        """The tags of the model version; what is not known has none."""
        found = {KFP_RUN: self.run, "mcti.pipeline": self.pipeline, SOURCE: self.data}
        return {name: value for name, value in found.items() if value}


def commit() -> str:
    """The commit of the code that runs, `…-dirty` when files of the package or the settings differ (`changed`).

    MCTI_COMMIT says it where there is no checkout (an image); without either it is `unknown`.
    """
    named = os.environ.get("MCTI_COMMIT")
    if named:
        return named
    head = _git(Path(mcti.__file__).resolve().parent, "rev-parse", "HEAD")
    if head is None:
        return UNKNOWN
    return head + (DIRTY if changed() else "")


def changed() -> list[str]:
    """What differs from the last commit: tracked files of the package; params.yaml and dvc.yaml of the working
    directory, also where git does not know them. Results that DVC writes (dvc.lock, metrics) do not count.
    """
    package = Path(mcti.__file__).resolve().parent
    found = _git(package, "status", "--porcelain", "--untracked-files=no", ".") or ""
    project = Path.cwd()
    settings = [name for name in SETTINGS if (project / name).is_file()]
    # Of no argument git would report everything.
    found += "\n" + ((_git(project, "status", "--porcelain", "--", *settings) or "") if settings else "")
    return sorted({line.split(maxsplit=1)[1] for line in found.splitlines() if line.strip()})


def has_commit(sha: str) -> bool:
    """Whether the checkout that runs knows this commit."""
    return _git(Path(mcti.__file__).resolve().parent, "cat-file", "-e", f"{sha}^{{commit}}") is not None


def image() -> str:
    """The image of this task, as MCTI_IMAGE names it (pin it by digest); `none` outside a pipeline."""
    return os.environ.get("MCTI_IMAGE") or "none"


def code() -> dict[str, str]:
    """Tags of a run: which code it is, and in which image."""
    return {"mcti.commit": commit(), "mcti.image": image()}


def pipeline_run() -> str:
    """The id of the pipeline run that this process is a task of, as MCTI_RUN names it; "" elsewhere."""
    return os.environ.get("MCTI_RUN", "")


def folds_sha256(models: Path) -> str:
    """SHA-256 over who was trained on and who was tested in which fold."""
    import pandas as pd

    rows = []
    for folder in sorted(models.glob("fold_*")):
        trained = storage.read_json(folder / "model.json").get("patients", [])
        tested = pd.read_csv(folder / "predictions.csv", usecols=["patient_id"], dtype=str, keep_default_na=False)
        rows.append([folder.name, sorted(trained), sorted(tested["patient_id"])])
    return hashlib.sha256(storage.to_json(rows).encode()).hexdigest()


def data_versions(models: Path) -> dict[str, str]:
    """MD5s of what the models were made from, by path, as the dvc.lock of their project names them.

    Models outside a DVC project (a cluster's step) have their own word for it: `bags`, one MD5 over the digests of
    all training and test parts in their model.json.
    """
    lock = next((p / "dvc.lock" for p in models.resolve().parents if (p / "dvc.lock").is_file()), None)
    found = _locked(lock, models.resolve()) if lock is not None else {}
    return found or {"bags": storage.text_md5("".join(_digests(folder) for folder in sorted(models.glob("fold_*"))))}


def _locked(lock: Path, models: Path) -> dict[str, str]:
    """The data that the stage which wrote `models` depends on; none when no stage did."""
    try:
        stages: Mapping[str, Any] = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError("not a lock file of DVC", str(lock), "run `dvc repro` again") from error
    for stage in stages.values():
        if any((lock.parent / out["path"]).resolve() == models for out in stage.get("outs", ())):
            return {d["path"]: str(d["md5"]) for d in stage["deps"] if not d["path"].startswith("mcti/")}
    return {}


def _digests(folder: Path) -> str:
    return storage.to_json(storage.read_json(folder / "model.json").get("digests", {}))


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
