"""The retraining pipeline: a new version of the sources to a challenger that is judged, or the reason why not."""

from typing import Any

from kfp import dsl

from components.utilities.detect import detect
from components.utilities.outcome import make_room
from mcti.params import Settings
from pipelines import stages
from pipelines.stages import Stages


def retraining(settings: Settings, data: str = "", version: str = "") -> Any:  # noqa: ARG001  (as its siblings)
    """The pipeline of these settings; which data it trains on it finds out when it runs.

    Where no version of the model was trained on the newest version of the sources, and no other retraining runs, the
    new version is validated and extracted; where the rules of `monitor` say so, a challenger is trained and judged on
    the same patients as the champion. Else the run ends after its first task and says why.

    data        unused: the newest version of the sources stands in the remote
    version     of this pipeline, kept with the model
    """
    stages.need_slides(settings)
    stages.need_study(settings)
    remote = stages.need_remote(settings)
    # Every source is pinned when it is read, so a result of KFP's cache is always the right one.
    parts, text = Stages(settings.cluster, cache=True, version=version), stages.sections_of(settings)

    @dsl.pipeline(
        name=f"{settings.cluster.pipeline}-retraining",
        description="A new version of the data to a judged challenger.",
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
        last = make_room(register=register, remote=remote)
        with dsl.ExitHandler(parts.place(last, "wiring", cache=False), name="retraining"):
            hours = settings.cluster.lease_hours
            look = detect(params=ingest, register=register, remote=remote, hours=hours)
            found = parts.place(look, "wiring", cache=False).outputs
            with dsl.If(found["Output"] == True, name="new-data"):  # noqa: E712  (a condition of KFP's, not of Python)
                keys = parts.keys(sections | {"ingest": found["ingest"]}, found["data"])
                cohort = parts.sources(found["ingest"], found["data"])
                checked = parts.valid(validate, cohort, keys)
                inputs = {"cohort": cohort, "features": parts.features(extract, cohort, keys, after=checked)}
                verdict = parts.watched(monitor, found["model"], inputs)
                with dsl.If(verdict.outputs["Output"] == True, name="train-again"):  # noqa: E712
                    parts.judged(sections, inputs, keys, checked, found["data"], found["lease"])
                with dsl.If(verdict.outputs["Output"] == False, name="champion-stays"):  # noqa: E712
                    parts.concluded("no rule of monitor fired: the champion stays", [], found["lease"])
            with dsl.If(found["Output"] == False, name="nothing-new"):  # noqa: E712
                parts.concluded(found["reason"], [], found["lease"])

    return run
