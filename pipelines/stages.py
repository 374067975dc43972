"""The parts that the pipelines share: from sources to features, and from features to an evaluated version."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from kfp import dsl

from mcti.components.evaluate import evaluate as evaluate_component
from mcti.components.extract import extract as extract_component
from mcti.components.ingest import ingest as ingest_component
from mcti.components.monitor import monitor as monitor_component
from mcti.components.pretrain import pretrain as pretrain_component
from mcti.components.promote import promote as promote_component
from mcti.components.register import register as register_component
from mcti.components.search import search as search_component
from mcti.components.split import split as split_component
from mcti.components.test import test as test_component
from mcti.components.train import train as train_component
from mcti.components.utilities.cache_keys import cache_keys
from mcti.components.utilities.conclude import conclude, conclude_verdict
from mcti.components.utilities.create_study import create_study
from mcti.components.utilities.merge import merge_features, merge_models
from mcti.components.utilities.publish import publish
from mcti.components.utilities.visualize import visualize
from mcti.components.validate import validate as validate_component
from mcti.components.validate_features import validate_features as validate_features_component
from mcti.errors import UsageError
from mcti.params import ClusterParams, Settings, TestParams
from mcti.params.evaluation import GATE_BASELINE
from mcti.params.result_settings import RESULT_NEUTRAL, VARIABLE, neutral_text, result_text
from mcti.pipelines import resources
from mcti.registry.trust import policy

Artifacts = dict[str, Any]
"""Outputs of tasks by the name of the input that receives them."""


@dataclass(frozen=True)
class Stages:
    """Groups of tasks with the resources of the section `cluster`.

    cache       whether KFP may reuse the result of an equal task (the data are pinned); never for an image without
                digest
    version     of the pipeline, in the environment of every task
    external    the cohort on which a new version is tested before the gates; without one there is no such task
    """

    cluster: ClusterParams
    cache: bool
    version: str
    external: TestParams = field(default_factory=TestParams)

    def configure(self, task: dsl.PipelineTask, name: str, *, cache: bool | None = None) -> dsl.PipelineTask:
        """`task` with the resources of row `name`."""
        # A tag may point to another image later, and KFP's cache compares the name only.
        cache = (self.cache if cache is None else cache) and "@sha256:" in self.cluster.image
        return resources.configure(task, name, self.cluster, cache=cache, version=self.version)

    @property
    def config(self) -> dsl.PipelineConfig | None:
        """How long the pods of a finished run are kept; None: as the server sets it."""
        hours = self.cluster.run_ttl_hours
        return dsl.PipelineConfig(ttl_seconds_after_finished=hours * 3600) if hours else None

    @property
    def shards(self) -> list[int]:
        """Numbers of the shards of slides."""
        return list(range(self.cluster.extract_shards))

    def keys(self, sections: Artifacts, data: Any) -> Artifacts:
        """Hashes of what cohort, features, folds, best settings and evaluation depend on: `key` of their readers."""
        steps = ("ingest", "extract", "split", "search", "train", "evaluate")
        texts = {name: sections.get(name, "") for name in steps}
        # Never cached: it reads the versions of ready-made features, which no parameter names.
        return dict(self.configure(cache_keys(data=data, **texts), "utility", cache=False).outputs)

    def sources(self, ingest: Any, data: Any) -> Any:
        """The cohort of the source tables."""
        return self.configure(ingest_component(params=ingest, data=data), "ingest").outputs["cohort"]

    def features(self, extract: Any, cohort: Any, keys: Artifacts, after: dsl.PipelineTask | None = None) -> Any:
        """Features of the slides of the cohort: one task per shard, then merged."""
        shards = len(self.shards)
        with dsl.ParallelFor(items=self.shards, name="shards") as shard:
            part = extract_component(params=extract, key=keys["cohort"], shard=shard, shards=shards, cohort=cohort)
            self.configure(part.after(after) if after is not None else part, "extract")
        parts = dsl.Collected(part.outputs["features"])
        whole = merge_features(params=extract, key=keys["features"], parts=parts)
        return self.configure(whole, "utility").outputs["whole"]

    def validate(self, validate: Any, cohort: Any, keys: Artifacts) -> dsl.PipelineTask:
        """The check of the cohort against its contract; the other tasks run after it."""
        return self.configure(validate_component(params=validate, key=keys["cohort"], cohort=cohort), "validate")

    def validate_features(self, validate: Any, inputs: Artifacts, keys: Artifacts) -> dsl.PipelineTask:
        """The check of the features against their contract; the tasks that read features run after it."""
        task = validate_features_component(params=validate, key=keys["features"], **inputs)
        return self.configure(task, "validate_features")

    def monitor(self, monitor: Any, model: Any, inputs: Artifacts) -> dsl.PipelineTask:
        """The champion checked on the new patients; its output is true where it must be retrained."""
        return self.configure(monitor_component(params=monitor, model=model, **inputs), "monitor", cache=False)

    def pretrain(self, train: Any, split: Any) -> dsl.PipelineTask:
        """The cohorts of `train.sources` as one, with folds and models; never cached, since a source may change."""
        return self.configure(pretrain_component(params=train, split=split), "pretrain", cache=False)

    def search(self, sections: Artifacts, inputs: Artifacts, keys: Artifacts) -> Any:
        """The best settings: from one task, or from `cluster.search_workers` tasks that share a PostgreSQL study."""
        arguments = {"params": sections["search"], "train": sections["train"], "key": keys["folds"], **inputs}
        if self.cluster.search_workers == 1:
            return self.configure(search_component(**arguments), "search").outputs["best"]
        study = self.configure(create_study(**arguments), "utility", cache=False)
        with dsl.ParallelFor(items=list(range(self.cluster.search_workers)), name="workers"):
            worker = search_component(**arguments).after(study)
            self.configure(worker, "search", cache=False)
        # All trials are complete: one more search adds none, and writes the result of all of them.
        collected = search_component(**arguments).after(worker).set_display_name("collect")
        return self.configure(collected, "search", cache=False).outputs["best"]

    def train_and_promote(
        self,
        sections: Artifacts,
        inputs: Artifacts,
        keys: Artifacts,
        validated: tuple[dsl.PipelineTask, dsl.PipelineTask],
        data: Any,
        lease: Any = "",
    ) -> None:
        """From features to a registered version that the gates have evaluated.

        sections    settings of split, search, train, evaluate, register and promote as JSON text
        inputs      cohort, features
        keys        hashes of what these and the later results depend on
        validated   the tasks that checked cohort and features against the data contract
        data        MD5 of the sources, recorded with the model version
        lease       address of the lease of a retraining
        """
        cohort_checked, features_checked = validated
        assigned = split_component(params=sections["split"], key=keys["features"], **inputs).after(features_checked)
        folds = self.configure(assigned, "split").outputs
        inputs = {**inputs, "folds": folds["folds"]}
        best, key = self.search(sections, inputs, keys), keys["best"]
        with dsl.ParallelFor(folds["Output"], name="folds", parallelism=self.cluster.parallel_folds) as fold:
            model = train_component(params=sections["train"], key=key, fold=fold, best=best, **inputs)
            self.configure(model, "train")
        merged = merge_models(key=key, parts=dsl.Collected(model.outputs["model"]))
        models = self.configure(merged, "utility").outputs["whole"]
        self.evaluate_and_promote(sections, {**inputs, "models": models}, keys, cohort_checked, data, lease)

    def evaluate_and_promote(
        self,
        sections: Artifacts,
        inputs: Artifacts,
        keys: Artifacts,
        cohort_checked: dsl.PipelineTask,
        data: Any,
        lease: Any = "",
    ) -> None:
        """From trained folds to a registered version that the gates have evaluated.

        sections    settings of evaluate, register and promote as JSON text
        inputs      cohort, features, folds, models
        keys        hashes of what `best` and `evaluation` depend on; empty without a cache
        The others  as of `train_and_promote`
        """
        models = inputs["models"]
        evaluated = evaluate_component(params=sections["evaluate"], key=keys["best"], **inputs)
        report = self.configure(evaluated, "evaluate").outputs["report"]
        reports = {"evaluation": report, "validation": cohort_checked.outputs["report"]}
        plots = self.configure(visualize(key=keys["evaluation"], evaluation=report), "utility")
        registered = register_component(params=sections["register"], data=data, models=models, **reports)
        version = self.configure(registered, "register", cache=False).outputs["version"]
        promoted = promote_component(params=sections["promote"], version=version)
        promoted.after(*self.test(sections["evaluate"], version))
        verdict = self.configure(promoted, "promote", cache=False).outputs["verdict"]
        published = self.publish(features=inputs["features"], models=models, evaluation=report)
        last = conclude_verdict(verdict=verdict, remote=self.cluster.remote or "", lease=lease)
        self.configure_last(last, after=[plots, *published])

    def test(self, evaluate: Any, version: Any) -> list[dsl.PipelineTask]:
        """The external validation of the registered version, where the settings name a cohort; the tasks.

        Its addresses are constants of the pipeline: whether there is the task is fixed when it is compiled.
        """
        if self.external.cohort is None:
            return []
        addresses = {"cohort": self.external.cohort, "features": self.external.features or ""}
        return [self.configure(test_component(params=evaluate, version=version, **addresses), "test", cache=False)]

    def publish(self, **results: Any) -> list[dsl.PipelineTask]:
        """Results as versions in DVC's remote, where the settings name one; the tasks."""
        tasks = []
        for name, result in results.items() if self.cluster.remote else ():
            task = publish(remote=self.cluster.remote, name=name, result=result)
            tasks.append(self.configure(task.set_display_name(f"publish-{name}"), "utility", cache=False))
        return tasks

    def conclude(self, reason: Any, after: list[dsl.PipelineTask], lease: Any = "") -> None:
        """The last task of a branch that ends for `reason`."""
        self.configure_last(conclude(reason=reason, remote=self.cluster.remote or "", lease=lease), after)

    def configure_last(self, task: dsl.PipelineTask, after: list[dsl.PipelineTask]) -> None:
        """Place the task that marks the run as successful: after every task of its branch whose output is not read.

        It belongs to the same branch, since KFP skips a task that waits for a skipped branch. It is never cached.
        """
        self.configure(task.after(*after), "utility", cache=False).set_display_name("conclude")


def cluster_of(settings: Settings) -> ClusterParams:
    """The section `cluster`; the environment of its tasks has the settings that cannot change a result."""
    environment = {**settings.cluster.environment, VARIABLE: neutral_text(settings)}
    environment |= policy.task_environment(settings.trust)
    return settings.cluster.model_copy(update={"environment": environment})


def _text(section: str, text: str) -> str:
    """A section as the parameter of a run: without the settings that `cluster_of` passes."""
    return result_text(section, text) if section in RESULT_NEUTRAL else text


def sections_of(settings: Settings, trains: str = "train") -> dict[str, str]:
    """Each section of a step as JSON text; the same settings give the same text. A task with GPUs requires CUDA.

    trains  the step that reads the section train: train | pretrain
    """
    # Without this a task on a node with GPUs could train on the CPU unnoticed.
    if getattr(settings.cluster.steps, trains).gpus:
        settings = settings.model_copy(update={"train": settings.train.model_copy(update={"device": "cuda"})})
    fields = type(settings).model_fields.items()
    return {
        field.alias or name: _text(field.alias or name, getattr(settings, name).model_dump_json(by_alias=True))
        for name, field in fields
        if name != "cluster"
    }


def require_slides(settings: Settings) -> None:
    """Refuse a cohort without slides.

    Raises
        UsageError: there is no slide manifest.
    """
    if settings.ingest.slides is None:
        raise UsageError("a cohort without slides", "params.yaml, key ingest.slides", "name the slide manifest")


def require_gate_baseline(settings: Settings) -> None:
    """Refuse an evaluation whose version the last task, `promote`, would refuse.

    Raises
        UsageError: evaluate.baselines does not list the baseline of the gates.
    """
    if GATE_BASELINE not in settings.evaluate.baselines:
        what = f"the gates of promote compare with the baseline {GATE_BASELINE}, which is not listed"
        raise UsageError(what, "params.yaml, key evaluate.baselines", f"add {GATE_BASELINE}")


def require_study(settings: Settings) -> None:
    """Refuse parallel workers without a shared study, and a password that the compiled pipeline would contain.

    Raises
        UsageError: search.storage is not PostgreSQL, or holds a password.
    """
    storage = settings.search.storage or ""
    if settings.cluster.search_workers > 1 and not storage.startswith("postgresql"):
        hint = "write postgresql://USER@HOST/DATABASE, or set cluster.search_workers to 1"
        raise UsageError("parallel workers of the search share a study in PostgreSQL", "search.storage", hint)
    if urlsplit(storage).password:
        hint = "remove it from the address and pass it as PGPASSWORD (cluster.secrets)"
        raise UsageError("the pipeline would show the password of the database", "search.storage", hint)


def require_remote(settings: Settings) -> str:
    """The address of DVC's remote.

    Raises
        UsageError: the settings name none.
    """
    if settings.cluster.remote is None:
        hint = "write the url of DVC's remote (.dvc/config), s3://bucket/prefix"
        raise UsageError("no remote for new data", "cluster.remote", hint)
    return settings.cluster.remote
