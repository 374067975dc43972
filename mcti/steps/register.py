"""register: the trained folds become one version in the registry, with the alias challenger."""

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.params import RegisterParams
from mcti.registry import approvals, card, ensemble_files, lineage, mlbom, models, sbom, tracking, training_runs
from mcti.registry.evidence import Evidence
from mcti.registry.lineage import Origin
from mcti.registry.refusals import cache_refusals
from mcti.registry.trust import keys, model_signature, signing
from mcti.registry.trust.keys import Signer
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location


class RegisterResult(StepResult):
    """The version. digest: SHA-256 of weights and assignment; data: MD5 of each input of the training.

    signer  SHA-256 of the public key that signed it; "": it is not signed
    """

    name: str
    version: int
    alias: str
    run_id: str
    digest: str
    commit: str
    data: dict[str, str]
    notice: str
    c_index: float
    signer: str = ""


@logged
@cache_refusals
def register(
    models_folder: Location,
    evaluation: Location,
    validation: Location | None,
    params: RegisterParams,
    out: Path,
    *,
    origin: Origin = Origin(),  # noqa: B008  (frozen)
) -> RegisterResult:
    """Register the ensemble of the folds with its evaluation once, and give it the alias challenger.

    A repeated call, also after an interruption, results in the same single version.

    origin  the pipeline run that trained the folds; stored as tags of the version and its run

    Reads   models_folder/fold_*/, evaluation/{metrics.json, summary.json, predictions.csv, groups.csv, report.html,
            figures/}, validation/results.json (None: the result of the data contract is unknown to the gates)
    Writes  out (a JSON file); a run, below it one per fold with its learning curve (training_runs.py), a model version
            with its signatures where the environment configures a key (trust/keys.py), and the alias `challenger` in
            MLflow

    Raises
    UsageError when the signing key cannot be used.
    DataError when a file is missing, or the predictions are not those of the folds.
    OperationalError when MLflow or S3 is unavailable.
    """
    signer = keys.from_environment()
    with (
        storage.local_copy(models_folder) as folds,
        storage.local_copy(evaluation) as reports,
        _local(validation) as contract,
        tempfile.TemporaryDirectory(prefix="mcti-register-") as scratch,
    ):
        folder = Path(scratch) / "ensemble"
        digest = ensemble_files.assemble(folds, folder, refit=params.predictor == "refit")
        evidence = Evidence.read(folds, reports, contract)
        trained = ensemble_files.member_folders(folds, refit=params.predictor == "refit")
        with tracking.service() as client:
            tracking.close_stale(client, params.experiment, models.DIGEST, digest)
            version = models.version_by_digest(client, params.name, digest)
            if version is None:
                version = _create(client, params, folder, digest, evidence, origin)
            elif version.tags.get(models.EVALUATION) != evidence.md5:
                _renew(client, version, params, folder, evidence)
            training_runs.log_below(client, version.tags[models.RUN], trained)
            if origin.data and version.tags.get(lineage.SOURCE) != origin.data:  # the same weights from other data
                for tag, value in origin.tags().items():
                    client.set_model_version_tag(version.name, version.version, tag, value)
                _log_card(client, version.tags[models.RUN], _card(params, digest, evidence), folder, origin.data)
            client.update_model_version(params.name, version.version, card.markdown(_card(params, digest, evidence)))
            if signer is not None:
                signing.sign_registered(client, params.name, version.version, folder, signer)
            client.set_registered_model_alias(params.name, models.CHALLENGER, version.version)
    result = _result(version, digest, evidence, signer)
    storage.write_json(out, result.model_dump(mode="json"))
    return result


def _local(location: Location | None) -> AbstractContextManager[Path | None]:
    return nullcontext() if location is None else storage.local_copy(location)


def _create(client: Any, params: RegisterParams, folder: Path, digest: str, evidence: Evidence, origin: Origin) -> Any:
    model_card = _card(params, digest, evidence)
    tags = _tags(digest, evidence, model_card) | origin.tags()
    with tracking.run(params.experiment, f"register-{digest[:8]}", tags) as run_id:
        evidence.log()
        _log_card(client, run_id, model_card, folder, origin.data)
        address = models.log(folder, digest, evidence.headline())
        return models.create_version(params.name, address, {**tags, models.RUN: run_id})


def _renew(client: Any, version: Any, params: RegisterParams, folder: Path, evidence: Evidence) -> None:
    """Store a new evaluation of the same weights; the version keeps its number."""
    model_card = _card(params, version.tags[models.DIGEST], evidence)
    with tracking.reopen(version.tags[models.RUN]) as run_id:
        evidence.log()
        tracking.log_metrics(evidence.headline())
        _log_card(client, run_id, model_card, folder, version.tags.get(lineage.SOURCE, ""))
    client.set_model_version_tag(version.name, version.version, models.CONTRACT, evidence.contract)
    client.set_model_version_tag(version.name, version.version, models.EVALUATION, evidence.md5)


def _card(params: RegisterParams, digest: str, evidence: Evidence) -> dict[str, Any]:
    record = {
        "digest": digest,
        "commit": lineage.commit(),
        "image": lineage.image(),
        "folds": evidence.folds_sha256,
        "data": dict(evidence.data),
    }
    return card.build(evidence, params, record, encoder_licence(evidence.spec.get("features", {})))


def encoder_licence(features: Mapping[str, Any]) -> str:
    """The licence of the encoder of the features; empty for an unknown one (a file of the user).

    features  attributes of the feature files, {name: value}
    """
    from mcti.slides import encoder_registry

    name = str(features.get("encoder", ""))
    if name in ("hed44", "lite0"):
        return "Apache-2.0"
    known = encoder_registry.ENCODERS.get(name.removeprefix("timm:").partition("@")[0])
    return known.licence if known else ""


def _log_card(client: Any, run_id: str, model_card: Mapping[str, Any], folder: Path, source: str) -> None:
    client.log_dict(run_id, dict(model_card), "card/card.json")
    client.log_text(run_id, card.markdown(model_card), "card/card.md")
    client.log_dict(run_id, sbom.build(), "card/sbom.json")
    materials = mlbom.build(model_card, model_signature.file_hashes(folder), source)
    client.log_dict(run_id, materials, f"card/{mlbom.FILE}")


def _tags(digest: str, evidence: Evidence, model_card: Mapping[str, Any]) -> dict[str, str]:
    data = {f"mcti.data.{name}": md5 for name, md5 in evidence.data.items()}
    features = evidence.spec.get("features", {})
    tags = {
        "mcti.step": "register",
        models.DIGEST: digest,
        models.EVALUATION: evidence.md5,
        models.CONTRACT: evidence.contract,
        "mcti.commit": model_card["lineage"]["commit"],
        **_changed(model_card["lineage"]["commit"]),
        "mcti.image": model_card["lineage"]["image"],
        "mcti.folds": evidence.folds_sha256,
        "mcti.encoder": str(features.get("encoder", card.GAP)),
        "mcti.encoder_sha256": str(features.get("encoder_weights_sha256", card.GAP)),
        "mcti.target_mpp": str(features.get("target_mpp", card.GAP)),
        "mcti.target_patch_size": str(features.get("target_patch_size", card.GAP)),
        "mcti.tissue": str(features.get("tissue_method", card.GAP)),
        **{f"mcti.licence.{subject}": licence for subject, licence in model_card["licences"].items()},
        **approvals.registrant_tags(),
    }
    return {**tags, **data, **({"mcti.notice": evidence.notice} if evidence.notice else {})}


def _changed(commit: str) -> dict[str, str]:
    """The tag with the files that differ from the commit; MLflow limits a tag to 5,000 characters."""
    if not commit.endswith(lineage.DIRTY):
        return {}
    files = lineage.changed_files()
    return {lineage.CHANGED: ", ".join(files[:20]) + (f" and {len(files) - 20} more" if len(files) > 20 else "")}


def _result(version: Any, digest: str, evidence: Evidence, signer: Signer | None) -> RegisterResult:
    return RegisterResult(
        name=version.name,
        version=int(version.version),
        alias=models.CHALLENGER,
        run_id=version.tags[models.RUN],
        digest=digest,
        commit=version.tags["mcti.commit"],
        data=evidence.data,
        notice=evidence.notice,
        c_index=float(evidence.score()["value"]),
        signer="" if signer is None else keys.fingerprint(signer.public_key),
    )
