"""The parts that the pipelines share: from sources to features, from features to a judged version."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kfp import dsl

from components.evaluate import evaluate as evaluate_component
from components.extract import extract as extract_component
from components.ingest import ingest as ingest_component
from components.monitor import monitor as monitor_component
from components.promote import promote as promote_component
from components.register import register as register_component
from components.search import search as search_component
from components.split import split as split_component
from components.train import train as train_component
from components.utilities.conclude import conclude, conclude_verdict
from components.utilities.keys import keys as keys_component
from components.utilities.merge import merge_features, merge_models
from components.utilities.publish import publish
from components.utilities.show import show
from components.utilities.study import open_study
from components.validate import validate as validate_component
from mcti.errors import UsageError
from mcti.params import ClusterParams, Settings
from pipelines import resources

Artifacts = dict[str, Any]
"""What tasks hand on, by the name of the input that takes it."""


@dataclass(frozen=True)
class Stages:
    """Tasks placed by the table `cluster`.

    cache       may KFP take the result of an equal task (the data are pinned)? It never does of an image without digest
    version     of the pipeline, which every task is told
    """

    cluster: ClusterParams
    cache: bool
    version: str

    def place(self, task: dsl.PipelineTask, name: str, *, cache: bool | None = None) -> dsl.PipelineTask:
        """`task` with the resources of row `name`."""
        # By any other name than its digest an image may have changed, and KFP compares the name.
        cache = (self.cache if cache is None else cache) and "@sha256:" in self.cluster.image
        return resources.place(task, name, self.cluster, cache=cache, version=self.version)

    @property
    def config(self) -> dsl.PipelineConfig | None:
        """How long the pods of a run that ended stay; None: as the server sets it."""
        hours = self.cluster.run_ttl_hours
        return dsl.PipelineConfig(ttl_seconds_after_finished=hours * 3600) if hours else None

    @property
    def shards(self) -> list[int]:
        """Numbers of the shards of slides."""
        return list(range(self.cluster.extract_shards))

    def keys(self, sections: Artifacts, data: Any) -> Artifacts:
        """What cohort, features, folds, best settings and evaluation follow from: `key` of the tasks that read them."""
        steps = ("ingest", "extract", "split", "search", "train", "evaluate")
        texts = {name: sections.get(name, "") for name in steps}
        return dict(self.place(keys_component(data=data, **texts), "wiring").outputs)

    def sources(self, ingest: Any, data: Any) -> Any:
        """Tables of the sources to the cohort."""
        return self.place(ingest_component(params=ingest, data=data), "ingest").outputs["cohort"]

    def features(self, extract: Any, cohort: Any, keys: Artifacts, after: dsl.PipelineTask | None = None) -> Any:
        """Slides of the cohort to features, one task a shard, put together."""
        shards = len(self.shards)
        with dsl.ParallelFor(items=self.shards, name="shards") as shard:
            part = extract_component(params=extract, key=keys["cohort"], shard=shard, shards=shards, cohort=cohort)
            self.place(part.after(after) if after is not None else part, "extract")
        parts = dsl.Collected(part.outputs["features"])
        whole = merge_features(params=extract, key=keys["features"], parts=parts)
        return self.place(whole, "wiring").outputs["whole"]

    def valid(self, validate: Any, cohort: Any, keys: Artifacts) -> dsl.PipelineTask:
        """The cohort held against its contract; the task that the others wait for."""
        return self.place(validate_component(params=validate, key=keys["cohort"], cohort=cohort), "validate")

    def watched(self, monitor: Any, model: Any, inputs: Artifacts) -> dsl.PipelineTask:
        """The champion held against the new patients; its output says whether to train again."""
        return self.place(monitor_component(params=monitor, model=model, **inputs), "monitor", cache=False)

    def searched(self, sections: Artifacts, inputs: Artifacts, keys: Artifacts) -> Any:
        """The settings that won: by one task, or by `cluster.search_workers` tasks on one study in PostgreSQL."""
        asked = {"params": sections["search"], "train": sections["train"], "key": keys["folds"], **inputs}
        if self.cluster.search_workers == 1:
            return self.place(search_component(**asked), "search").outputs["best"]
        study = self.place(open_study(**asked), "wiring", cache=False)
        with dsl.ParallelFor(items=list(range(self.cluster.search_workers)), name="workers"):
            worker = search_component(**asked).after(study)
            self.place(worker, "search", cache=False)
        # All trials are there now: one more search makes none, and writes the result of all of them.
        collected = search_component(**asked).after(worker).set_display_name("collect")
        return self.place(collected, "search", cache=False).outputs["best"]

    def judged(
        self,
        sections: Artifacts,
        inputs: Artifacts,
        keys: Artifacts,
        checked: dsl.PipelineTask,
        data: Any,
        lease: Any = "",
    ) -> None:
        """Features to a version of the registry that the gate has judged.

        sections    settings of split, search, train, evaluate, register and promote as JSON text
        inputs      cohort, features
        keys        what these and what is made of them follow from
        checked     the report of the data contract
        data        MD5 of the sources, which the model version keeps
        lease       address of the lease of a retraining
        """
        dealt = self.place(split_component(params=sections["split"], key=keys["features"], **inputs), "split")
        inputs = {**inputs, "folds": dealt.outputs["folds"]}
        best, key = self.searched(sections, inputs, keys), keys["best"]
        with dsl.ParallelFor(dealt.outputs["Output"], name="folds", parallelism=self.cluster.parallel_folds) as fold:
            model = train_component(params=sections["train"], key=key, fold=fold, best=best, **inputs)
            self.place(model, "train")
        merged = merge_models(key=key, parts=dsl.Collected(model.outputs["model"]))
        models = self.place(merged, "wiring").outputs["whole"]
        scored = evaluate_component(params=sections["evaluate"], key=key, models=models, **inputs)
        report = self.place(scored, "evaluate").outputs["report"]
        reports = {"evaluation": report, "validation": checked.outputs["report"]}
        shown = self.place(show(key=keys["evaluation"], evaluation=report), "wiring")
        version = register_component(params=sections["register"], data=data, models=models, **reports)
        registered = self.place(version, "register", cache=False).outputs["version"]
        judged = promote_component(params=sections["promote"], version=registered)
        verdict = self.place(judged, "promote", cache=False).outputs["verdict"]
        published = self.publish(features=inputs["features"], models=models, evaluation=report)
        last = conclude_verdict(verdict=verdict, remote=self.cluster.remote or "", lease=lease)
        self.last(last, after=[shown, *published])

    def publish(self, **results: Any) -> list[dsl.PipelineTask]:
        """Results as versions in DVC's remote, where the settings name one; the tasks."""
        tasks = []
        for name, result in results.items() if self.cluster.remote else ():
            task = publish(remote=self.cluster.remote, name=name, result=result)
            tasks.append(self.place(task.set_display_name(f"publish-{name}"), "wiring", cache=False))
        return tasks

    def concluded(self, reason: Any, after: list[dsl.PipelineTask], lease: Any = "") -> None:
        """The last task of a branch that ends for `reason`."""
        self.last(conclude(reason=reason, remote=self.cluster.remote or "", lease=lease), after)

    def last(self, task: dsl.PipelineTask, after: list[dsl.PipelineTask]) -> None:
        """Place the task that marks the run as successful: after every task of its branch that nothing else reads.

        In the same branch: what waits for a branch that KFP skips is skipped too. Never from the cache.
        """
        self.place(task.after(*after), "wiring", cache=False).set_display_name("conclude")


def sections_of(settings: Settings) -> dict[str, str]:
    """Each section of a step as JSON text; the same settings give the same text. A task with GPUs demands one."""
    if settings.cluster.steps.train.gpus:  # without it a task on a GPU's node would quietly train on the CPU
        settings = settings.model_copy(update={"train": settings.train.model_copy(update={"device": "cuda"})})
    fields = type(settings).model_fields.items()
    return {
        field.alias or name: getattr(settings, name).model_dump_json(by_alias=True)
        for name, field in fields
        if name != "cluster"
    }


def need_slides(settings: Settings) -> None:
    """Refuse a cohort without slides.

    Raises
        UsageError: there is no slide manifest.
    """
    if settings.ingest.slides is None:
        raise UsageError("a cohort without slides", "params.yaml, key ingest.slides", "name the slide manifest")


def need_study(settings: Settings) -> None:
    """Refuse parallel workers without a study that they could share, and a password that the pipeline would show.

    Raises
        UsageError: search.storage is not PostgreSQL, or holds a password.
    """
    storage = settings.search.storage or ""
    if settings.cluster.search_workers > 1 and not storage.startswith("postgresql"):
        hint = "write postgresql://USER@HOST/DATABASE, or take one worker"
        raise UsageError("parallel workers of the search share a study in PostgreSQL", "search.storage", hint)
    if urlsplit(storage).password:
        hint = "leave it out of the address and hand it on as PGPASSWORD (cluster.secrets)"
        raise UsageError("the pipeline would show the password of the database", "search.storage", hint)


def need_remote(settings: Settings) -> str:
    """DVC's remote.

    Raises
        UsageError: the settings name none.
    """
    if settings.cluster.remote is None:
        hint = "write the url of DVC's remote (.dvc/config), s3://bucket/prefix"
        raise UsageError("no remote where new data would be found", "cluster.remote", hint)
    return settings.cluster.remote
