"""A rule on the sources of transfer: no folder of the machine that compiles, which a pod cannot read."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from mcti import storage
from mcti.params import ClusterParams
from mcti.pipelines.checks.document import Document, json_value
from mcti.pipelines.checks.rule import Rule


def unreadable(document: Document, cluster: ClusterParams) -> Iterator[str]:
    """Addresses of train.sources that are folders outside the mounted claims."""
    declared = document.component("root").get("inputDefinitions", {}).get("parameters", {})
    train = json_value(declared.get("train", {}).get("defaultValue"))
    sources = train.get("sources", ()) if isinstance(train, dict) else ()
    for number, source in enumerate(sources):
        for key in ("cohort", "features"):
            address = source.get(key)
            if address and not storage.is_s3(address) and not _is_mounted(address, cluster):
                hint = "publish it with `mcti data publish`, and write its dvc+s3:// address"
                yield f"train.sources.{number}.{key} {address!r} is a folder that no pod can read: {hint}"


def _is_mounted(folder: str, cluster: ClusterParams) -> bool:
    path = PurePosixPath(folder)
    return any(path.is_relative_to(mounted) for mounted in cluster.claims.values()) and ".." not in path.parts


RULES = (
    Rule(
        "readable-sources",
        "search, train and pretrain stop with an error: a pod reads only S3 and the folders of cluster.claims",
        "Kubernetes 1.35: a pod has the files of its image and of its volumes",
        unreadable,
    ),
)
