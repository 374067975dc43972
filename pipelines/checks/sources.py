"""A rule on other cohorts, sources of transfer and external test: no folder of the machine that compiles."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from mcti import storage
from mcti.params import ClusterParams
from mcti.pipelines.checks.document import Document, json_value
from mcti.pipelines.checks.rule import Rule


def unreadable(document: Document, cluster: ClusterParams) -> Iterator[str]:
    """Addresses of train.sources and of the external cohort that are folders outside the mounted claims."""
    for name, address in (*_sources(document), *_external(document)):
        if address and not storage.is_s3(address) and not _is_mounted(address, cluster):
            hint = "publish it with `mcti data publish`, and write its dvc+s3:// address"
            yield f"{name} {address!r} is a folder that no pod can read: {hint}"


def _sources(document: Document) -> Iterator[tuple[str, str | None]]:
    """Settings and their addresses, from the default of the parameter `train`."""
    declared = document.component("root").get("inputDefinitions", {}).get("parameters", {})
    train = json_value(declared.get("train", {}).get("defaultValue"))
    for number, source in enumerate(train.get("sources", ()) if isinstance(train, dict) else ()):
        yield from ((f"train.sources.{number}.{key}", source.get(key)) for key in ("cohort", "features"))


def _external(document: Document) -> Iterator[tuple[str, str | None]]:
    """The same of the task `test`, whose addresses are constants."""
    for task in document.tasks():
        if task.name == "test":
            yield from ((f"test.{key}", document.value(task, key)) for key in ("cohort", "features"))


def _is_mounted(folder: str, cluster: ClusterParams) -> bool:
    path = PurePosixPath(folder)
    return any(path.is_relative_to(mounted) for mounted in cluster.claims.values()) and ".." not in path.parts


RULES = (
    Rule(
        "readable-sources",
        "search, train, pretrain and test stop with an error: a pod reads only S3 and the folders of cluster.claims",
        "Kubernetes 1.35: a pod has the files of its image and of its volumes",
        unreadable,
    ),
)
