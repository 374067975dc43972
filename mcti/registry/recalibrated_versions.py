"""Versions that are recalibrated copies of another version, their parent (docs/external-validation.md)."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.registry import (
    approvals,
    card,
    electronic_signatures,
    evidence,
    external_validations,
    lineage,
    mlbom,
    mlflow_client,
    models,
    recalibrated_ensemble,
    tracking,
)
from mcti.registry.recalibrated_ensemble import RecalibrationRecord
from mcti.registry.trust import keys, model_signature, signing

PARENT, PARENT_DIGEST = "mcti.parent_version", "mcti.parent_digest"
_CARD = "card"
COHORT_MD5, COHORT = "mcti.recalibrated_on", "mcti.recalibrated_on_name"


def create(parent_address: str, folder: Path, digest: str) -> int:
    """Register the recalibrated ensemble in `folder` as a version of its parent's model, with the alias challenger.

    Its run contains the evaluation of the parent: the risks of both are equal. Repeated calls result in one version.
    It is signed where the environment configures a key (trust/keys.py).

    Raises
    UsageError when the signing key cannot be used.
    DataError when there is no such parent, or it has other weights than those that were recalibrated.
    OperationalError when the registry does not respond.
    """
    record = recalibrated_ensemble.read(folder)
    assert record is not None, "the step writes the record"
    signer = keys.from_environment()
    with tracking.service() as client:
        parent = models.version_at(client, parent_address)
        models.require_digest(parent, record.parent)
        version = models.version_by_digest(client, parent.name, digest)
        if version is None:
            version = _create(client, parent, folder, _tags(parent, digest, record), record)
        client.update_model_version(parent.name, version.version, _description(client, parent, record))
        if signer is not None:
            signing.sign_registered(client, parent.name, version.version, folder, signer)
        client.set_registered_model_alias(parent.name, models.CHALLENGER, version.version)
    return int(version.version)


def _create(client: Any, parent: Any, folder: Path, tags: Mapping[str, str], record: RecalibrationRecord) -> Any:
    mlflow, run = mlflow_client.load(), client.get_run(models.run_of(parent))
    experiment = client.get_experiment(run.info.experiment_id).name
    digest = tags[models.DIGEST]
    with (
        tempfile.TemporaryDirectory(prefix="mcti-recalibrate-") as scratch,
        tracking.run(experiment, f"recalibrate-{digest[:8]}", tags) as run_id,
    ):
        folders = _copied(run.info.run_id, Path(scratch))
        _renew_card(folders[_CARD], folder, tags, record)
        tracking.log_files({path: name for name, path in folders.items()})
        mlflow.log_params(run.data.params)
        rows = {"patients": len(record.patients), "events": record.events}
        tracking.log_dataset(record.cohort, record.cohort_md5, rows, context="recalibration")
        # MLflow stores an artifact under the name of its folder, which `models.fetch` reads.
        ensemble = Path(shutil.copytree(folder, Path(scratch, "ensemble")))
        address = models.log(ensemble, digest, run.data.metrics)
        return models.create_version(parent.name, address, {**tags, models.RUN: run_id})


def _copied(run_id: str, scratch: Path) -> dict[str, Path]:
    """Copies of the evaluation and the card of the parent's run, by their names among the artifacts."""
    names = (evidence.FOLDER, _CARD)
    return {name: mlflow_client.download(f"runs:/{run_id}/{name}", scratch) for name in names}


def _renew_card(cards: Path, folder: Path, tags: Mapping[str, str], record: RecalibrationRecord) -> None:
    """Write card and ML-BOM in `cards` again: of the ensemble in `folder`, with the numbers of the recalibration."""
    document = storage.read_json(cards / "card.json")
    numbers = {name: value for name, value in asdict(record).items() if name != "patients"}
    data = document["lineage"]["data"] | {"recalibration": record.cohort_md5}
    changed = {"lineage": {**document["lineage"], "digest": tags[models.DIGEST], "data": data}}
    document |= {**changed, "recalibration": numbers}
    storage.write_json(cards / "card.json", document)
    (cards / "card.md").write_text(card.markdown(document), encoding="utf-8")
    materials = mlbom.build(document, model_signature.file_hashes(folder), tags.get(lineage.SOURCE, ""))
    storage.write_json(cards / mlbom.FILE, materials)


def _tags(parent: Any, digest: str, record: RecalibrationRecord) -> dict[str, str]:
    """The tags of the parent that describe its training and evaluation, and those of the recalibration."""
    excluded = (
        approvals.APPROVED,
        approvals.REGISTERED_BY,
        approvals.REGISTERED_USER,
        electronic_signatures.TAG,
        external_validations.TAG,
        models.RUN,
    )
    kept = {
        key: value for key, value in parent.tags.items() if key.startswith("mcti.") and not key.startswith(excluded)
    }
    return {
        **kept,
        "mcti.step": "test",
        models.DIGEST: digest,
        PARENT: str(parent.version),
        PARENT_DIGEST: record.parent,
        COHORT: record.cohort,
        COHORT_MD5: record.cohort_md5,
        "mcti.data.recalibration": record.cohort_md5,
        **approvals.registrant_tags(),
    }


def _description(client: Any, parent: Any, record: RecalibrationRecord) -> str:
    of_parent = client.get_model_version(parent.name, parent.version).description or ""
    return (
        f"**Recalibrated** from version {parent.version} on {len(record.patients)} patients ({record.events} events) "
        f"of {record.cohort} (MD5 {record.cohort_md5}): intercept {record.intercept:.3f}, slope {record.slope:.3f}. "
        "Risks and their ranking are those of that version, and so are the figures below; its own evidence is its "
        f"external validation.\n\n{of_parent}"
    )
