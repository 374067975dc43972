"""The retraining pipeline: a challenger for a new version of the sources, or the reason why none was trained."""

from typing import Any

from kfp import dsl

from mcti.components.utilities.detect_new_data import detect_new_data
from mcti.components.utilities.outcome import release_lease
from mcti.params import Settings
from mcti.pipelines import stages
from mcti.pipelines.stages import Stages


def retraining(settings: Settings, data: str = "", version: str = "") -> Any:  # noqa: ARG001  (one signature for all)
    """The pipeline of these settings; the version of the sources is determined when it runs.

    The new version is validated and extracted if no version of the model was trained on it and no other retraining of
    the model runs. If a rule of `monitor` fires, a challenger is trained and compared with the champion on the same
    patients. Otherwise the run ends after its first task and reports the reason.

    data        unused: the remote records the newest version of the sources
    version     of this pipeline, recorded with the model
    """
    stages.require_slides(settings)
    stages.require_gate_baseline(settings)
    stages.require_study(settings)
    remote = stages.require_remote(settings)
    # Every source is pinned when it is read, so a cached result is always that of the same data.
    parts = Stages(stages.cluster_of(settings), cache=True, version=version, external=settings.test)
    text = stages.sections_of(settings)

    @dsl.pipeline(
        name=f"{settings.cluster.pipeline}-retraining",
        description="A challenger for a new version of the sources.",
        pipeline_config=parts.config,
    )
    def run(
        ingest: str = text["ingest"],
        validate: str = text["validate"],
        extract: str = text["extract"],
        monitor: str = text["monitor"],
        split: str = text["split"],
        search: str = text["search"],
        train: str = text["train"],
        evaluate: str = text["evaluate"],
        register: str = text["register"],
        promote: str = text["promote"],
    ) -> None:
        sections = {"extract": extract, "split": split, "search": search, "train": train, "evaluate": evaluate}
        sections |= {"register": register, "promote": promote}
        last = release_lease(register=register, remote=remote)
        with dsl.ExitHandler(parts.configure(last, "utility", cache=False), name="retraining"):
            hours = settings.cluster.lease_hours
            detected = detect_new_data(params=ingest, register=register, remote=remote, hours=hours)
            newest = parts.configure(detected, "utility", cache=False).outputs
            with dsl.If(newest["Output"] == True, name="new-data"):  # noqa: E712  (a condition of KFP's, not of Python)
                keys = parts.keys(sections | {"ingest": newest["ingest"]}, newest["data"])
                cohort = parts.sources(newest["ingest"], newest["data"])
                validated = parts.validate(validate, cohort, keys)
                inputs = {"cohort": cohort, "features": parts.features(extract, cohort, keys, after=validated)}
                checked = parts.validate_features(validate, inputs, keys)
                monitored = parts.monitor(monitor, newest["model"], inputs).after(checked).outputs
                with dsl.If(monitored["Output"] == True, name="train-again"):  # noqa: E712
                    parts.train_and_promote(
                        sections, inputs, keys, (validated, checked), newest["data"], newest["lease"]
                    )
                with dsl.If(monitored["Output"] == False, name="champion-kept"):  # noqa: E712
                    parts.conclude("no rule of monitor fired: the champion is kept", [], newest["lease"])
            with dsl.If(newest["Output"] == False, name="nothing-new"):  # noqa: E712
                parts.conclude(newest["reason"], [], newest["lease"])

    return run
