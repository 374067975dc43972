"""The working folder of a rehearsal: settings of a small run, and a small cohort of demo patients."""

import json
from pathlib import Path
from typing import Any

import yaml

from infra.rehearse.session import MODEL, REMOTE, Session
from infra.rehearse.settings import merge

FIRST_COHORT, SECOND_COHORT = (16, 16), (20, 20)  # patients with an event, censored patients
# A run of some minutes: two folds, three trials by two workers, one epoch. The gate promotes the first version.
SMALL_RUN: dict[str, Any] = {
    "ingest": {
        "name": MODEL,
        "clinical": "data/raw/clinical.csv",
        "expression": "data/raw/expression.csv",
        "slides": "data/raw/slides.csv",
        "endpoint": "DMFS",
        "expression_scale": "log2",
    },
    "validate": {"min_events": 5, "min_patients": 10},
    "split": {"folds": 2, "inner_folds": 2},
    "search": {"trials": 3, "epochs": 1},
    "train": {"preset": "tiny", "epochs": 1, "bins": {"count": 2}},
    "evaluate": {"bootstrap": 100, "baselines": ["cox_clinical"], "primary_baseline": "cox_clinical"},
    "register": {"name": MODEL, "experiment": MODEL},
    "promote": {"min_events": 5, "bootstrap": 100},
    "explain": {"steps": 8, "clusters": 2},
    "monitor": {"rules": ["events"], "new_events": 1, "experiment": MODEL},
    "cluster": {"remote": REMOTE, "pipeline": MODEL, "experiment": MODEL, "search_workers": 2},
}


def write_settings(session: Session, **cluster: Any) -> Path:
    """Write params.yaml: the small run, the settings of overlay `local`, the image, and `cluster` last."""
    local = session.root / "infra/kubernetes/overlays/local/params.yaml"
    tree = merge(SMALL_RUN, yaml.safe_load(local.read_text(encoding="utf-8")))
    user = session.facts.get("user", "mcti")
    shared = {"search": {"storage": f"postgresql://{user}@postgresql.{session.options.namespace}:5432/search"}}
    # Two workers share a study in PostgreSQL; its password comes from the Secret, never from the settings.
    secrets = {
        "mcti-s3": {"access_key": "AWS_ACCESS_KEY_ID", "secret_key": "AWS_SECRET_ACCESS_KEY"},
        "mcti-postgresql": {"password": "PGPASSWORD"},
    }
    rehearsal_settings = {"image": session.options.image, "secrets": secrets, **cluster}
    path = session.work / "params.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        yaml.safe_dump(merge(merge(tree, shared), {"cluster": rehearsal_settings}), sort_keys=False), encoding="utf-8"
    )
    return path


def write_cohort(session: Session, events: int, censored: int) -> Path:
    """Write tables and synthetic slides of this number of demo patients; existing slides are kept."""
    from mcti.demo.public_cohort import demo_patients, demo_tables

    tables = demo_tables()
    by_event = tables.clinical.groupby("event")["patient_id"]
    chosen = {patient_id for event, ids in by_event for patient_id in ids.head(events if event else censored)}
    raw = session.work / "data/raw"
    (raw / "slides").mkdir(parents=True, exist_ok=True)
    for name in ("clinical", "expression", "slides"):
        rows = getattr(tables, name)
        rows[rows["patient_id"].isin(chosen)].to_csv(raw / f"{name}.csv", index=False, lineterminator="\n")
    for number, patient in enumerate(patient for patient in demo_patients() if patient.patient_id in chosen):
        _paint(raw / patient.path, number, patient.grade or 2, er_positive=patient.er_positive)
    return raw


def _paint(path: Path, seed: int, grade: int, *, er_positive: bool) -> None:
    from mcti.demo.painting import paint

    if not path.exists():
        paint(path, seed=seed, grade=grade, er_positive=er_positive)


def publish_cohort(session: Session, events: int, censored: int) -> str:
    """Upload a cohort to the remote in the overlay's S3 and set it as the latest. Returns its version."""
    raw = write_cohort(session, events, censored)
    with session.port_forwards("s3") as environment:
        published = session.mcti("data", "publish", str(raw.relative_to(session.work)), limit=600, **environment)
        session.mcti("data", "set-latest", published["md5"], **environment)
        result = session.mcti("data", "verify", f"dvc+{REMOTE}/{published['md5']}", **environment)
    assert result["faults"] == 0, json.dumps(result)
    return str(published["md5"])
