"""register: the trained folds become one version of the registry, the challenger."""

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.params import RegisterParams
from mcti.registry import approvals, card, ensemble_files, lineage, models, sbom, tracking
from mcti.registry.evidence import Evidence
from mcti.registry.lineage import Origin
from mcti.registry.refusals import cache_refusals
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location


class RegisterResult(StepResult):
    """The version: `digest` is the SHA-256 of weights and assignment, `data` the MD5s of what it was trained on."""

    name: str
    version: int
    alias: str
    run_id: str
    digest: str
    commit: str
    data: dict[str, str]
    notice: str
    c_index: float


@logged
@cache_refusals
def register(
    models_folder: Location,
    evaluation: Location,
    params: RegisterParams,
    out: Path,
    validation: Location | None = None,
    *,
    origin: Origin = Origin(),  # noqa: B008  (frozen)
) -> RegisterResult:
    """Register the ensemble of the folds with its evaluation, once, and call it the challenger.

    `origin`: the pipeline run that made them, kept as tags of the version and its run.

    Reads   models_folder/fold_*/, evaluation/{metrics.json, summary.json, predictions.csv, groups.csv, report.html,
            figures/}, validation/results.json (None: whether the data contract was kept is unknown to the gates)
    Writes  out (a JSON file); a run, a model version and the alias `challenger` in MLflow
    Raises  DataError when a file is missing or the predictions are not those of the folds; OperationalError when
            MLflow or S3 is in the way. Called again, also after a crash anywhere, it ends with the same one version.
    """
    with (
        storage.local_copy(models_folder) as folds,
        storage.local_copy(evaluation) as reports,
        _local(validation) as contract,
        tempfile.TemporaryDirectory(prefix="mcti-register-") as scratch,
    ):
        folder = Path(scratch) / "ensemble"
        digest = ensemble_files.assemble(folds, folder, refit=params.predictor == "refit")
        evidence = Evidence.read(folds, reports, contract)
        with tracking.service() as client:
            tracking.close_stale(client, params.experiment, models.DIGEST, digest)
            version = models.version_by_digest(client, params.name, digest)
            if version is None:
                version = _create(client, params, folder, digest, evidence, origin)
            elif version.tags.get(models.EVALUATION) != evidence.md5:
                _renew(client, version, params, evidence)
            if version.tags.get(lineage.SOURCE, "") != origin.data:  # the same weights from sources of another version
                for tag, value in origin.tags().items():
                    client.set_model_version_tag(version.name, version.version, tag, value)
            client.update_model_version(params.name, version.version, card.markdown(_card(params, digest, evidence)))
            client.set_registered_model_alias(params.name, models.CHALLENGER, version.version)
    result = _result(version, digest, evidence)
    storage.write_json(out, result.model_dump(mode="json"))
    return result


def _local(location: Location | None) -> AbstractContextManager[Path | None]:
    return nullcontext() if location is None else storage.local_copy(location)


def _create(client: Any, params: RegisterParams, folder: Path, digest: str, evidence: Evidence, origin: Origin) -> Any:
    told = _card(params, digest, evidence)
    tags = _tags(digest, evidence, told) | origin.tags()
    with tracking.run(params.experiment, f"register-{digest[:8]}", tags) as run_id:
        evidence.log()
        _log_card(client, run_id, told)
        address = models.log(folder, digest)
        return models.create_version(params.name, address, {**tags, models.RUN: run_id})


def _renew(client: Any, version: Any, params: RegisterParams, evidence: Evidence) -> None:
    """The same weights were evaluated anew: the version keeps its number and gets the new evidence."""
    told = _card(params, version.tags[models.DIGEST], evidence)
    with tracking.reopen(version.tags[models.RUN]) as run_id:
        evidence.log()
        _log_card(client, run_id, told)
    client.set_model_version_tag(version.name, version.version, models.CONTRACT, evidence.contract)
    client.set_model_version_tag(version.name, version.version, models.EVALUATION, evidence.md5)


def _card(params: RegisterParams, digest: str, evidence: Evidence) -> dict[str, Any]:
    made = {
        "digest": digest,
        "commit": lineage.commit(),
        "image": lineage.image(),
        "folds": evidence.folds_sha256,
        "data": dict(evidence.data),
    }
    return card.build(evidence, params, made, encoder_licence(evidence.spec.get("features", {})))


def encoder_licence(made: Mapping[str, Any]) -> str:
    """The licence of the encoder that made the features; empty for one that we know nothing of (a file of the user)."""
    from mcti.slides import encoder_registry

    name = str(made.get("encoder", ""))
    if name in ("hed44", "lite0"):
        return "Apache-2.0"
    known = encoder_registry.ENCODERS.get(name.removeprefix("timm:").partition("@")[0])
    return known.licence if known else ""


def _log_card(client: Any, run_id: str, told: Mapping[str, Any]) -> None:
    client.log_dict(run_id, dict(told), "card/card.json")
    client.log_text(run_id, card.markdown(told), "card/card.md")
    client.log_dict(run_id, sbom.build(), "card/sbom.json")


def _tags(digest: str, evidence: Evidence, told: Mapping[str, Any]) -> dict[str, str]:
    data = {f"mcti.data.{name}": md5 for name, md5 in evidence.data.items()}
    made = evidence.spec.get("features", {})
    named = {
        "mcti.step": "register",
        models.DIGEST: digest,
        models.EVALUATION: evidence.md5,
        models.CONTRACT: evidence.contract,
        "mcti.commit": told["lineage"]["commit"],
        **_changed(told["lineage"]["commit"]),
        "mcti.image": told["lineage"]["image"],
        "mcti.folds": evidence.folds_sha256,
        "mcti.encoder": str(made.get("encoder", card.GAP)),
        "mcti.encoder_sha256": str(made.get("encoder_weights_sha256", card.GAP)),
        "mcti.target_mpp": str(made.get("target_mpp", card.GAP)),
        "mcti.tissue": str(made.get("tissue_method", card.GAP)),
        **{f"mcti.licence.{what}": licence for what, licence in told["licences"].items()},
        approvals.REGISTERED_BY: approvals.actor(),
    }
    return {**named, **data, **({"mcti.notice": evidence.notice} if evidence.notice else {})}


def _changed(commit: str) -> dict[str, str]:
    """The tag that names what differed from the commit; MLflow takes 5,000 characters."""
    if not commit.endswith(lineage.DIRTY):
        return {}
    files = lineage.changed_files()
    return {lineage.CHANGED: ", ".join(files[:20]) + (f" and {len(files) - 20} more" if len(files) > 20 else "")}


def _result(version: Any, digest: str, evidence: Evidence) -> RegisterResult:
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
    )
