"""Log lines of a step: its start, its progress and its end."""

import functools
import inspect
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from pydantic import BaseModel

from mcti import logs, pinned, storage, task, versions
from mcti.errors import MctiError, NotEnoughEvidence, Rejected
from mcti.params import Params
from mcti.progress import ProgressLog, format_duration
from mcti.registry import lineage

P = ParamSpec("P")
R = TypeVar("R")
_LONGEST_VALUE = 160  # longest value of a result in the log, in characters: longer ones are in result.json only
_OPTIONS = ("fold", "refit", "init", "shard", "name", "version", "hours", "dry_run")
"""Arguments of steps that are neither inputs nor sections of params.yaml."""

_SLIDES = "/slides.parquet"
_UNKNOWN = "unknown"

_log = logging.getLogger(__name__)


def logged(step: Callable[P, R]) -> Callable[P, R]:
    """A step that logs start, progress and end, where logs are shown (mcti/logs.py); elsewhere it is unchanged."""
    signature = inspect.signature(step)

    @functools.wraps(step)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> R:
        if not logs.active():
            return step(*arguments, **named)
        bound = signature.bind(*arguments, **named)
        if "progress" in signature.parameters:
            bound.arguments.setdefault("progress", ProgressLog())
        with logs.step(step.__name__.replace("_", " ")):
            return _run(step, bound)

    return wrapped


def _run(step: Callable[..., R], bound: inspect.BoundArguments) -> R:
    started = time.monotonic()
    arguments = bound.arguments
    _log.info("started: %s, data %s, settings %s", _version(), data_version(arguments), _settings(arguments))
    try:
        result = step(*bound.args, **bound.kwargs)
    except (Rejected, NotEnoughEvidence) as verdict:  # a result, although the command ends with an exit code
        task.log_end(f"finished in {format_duration(time.monotonic() - started)}: {verdict.code}, {verdict}")
        raise
    out = bound.arguments.get("out")
    destination = "" if out is None else f"; results in {out}"
    task.log_end(f"finished in {format_duration(time.monotonic() - started)}{_headline(result)}{destination}")
    return result


def data_version(arguments: Mapping[str, Any]) -> str:
    """The version of the sources that the inputs of a step name or record; `unknown` where they do neither.

    The argument of each step that states it: pinned addresses or tables with a .dvc file (ingest), the MD5s that a
    cohort records, the cohort folder of a slide table, or the argument `origin` (register).
    """
    origin, slides = arguments.get("origin"), str(arguments.get("slides"))
    cohort = arguments.get("cohort") or (slides.removesuffix(_SLIDES) if slides.endswith(_SLIDES) else None)
    try:
        if isinstance(origin, lineage.Origin):
            return origin.data or _UNKNOWN
        if "clinical" in arguments:
            return _of_source(str(arguments["clinical"]))
        return _UNKNOWN if cohort is None else _recorded(str(cohort))
    except (MctiError, OSError, KeyError, TypeError, AttributeError, ValueError):
        return _UNKNOWN  # the step itself reports inputs that cannot be read


def _of_source(clinical: str) -> str:
    return (pinned.parse(clinical).md5 if pinned.is_pinned(clinical) else versions.source_md5(clinical)) or _UNKNOWN


def _recorded(cohort: str) -> str:
    """The MD5s of a cohort's sources."""
    sources = storage.read_json(storage.join(cohort, "cohort.json"))["sources"]
    return " ".join(f"{name}={md5}" for name, md5 in sources.items()) or _UNKNOWN


def _version() -> str:
    """As `task.version`, with the commit of a checkout where the environment does not name one."""
    known, commit = task.version(), lineage.commit()
    return known if "commit " in known or commit == lineage.UNKNOWN else f"{known}, commit {commit}"


def _settings(arguments: Mapping[str, Any]) -> str:
    """The sections and plain options of the call, as one JSON object."""
    sections = {n: v.model_dump(mode="json", by_alias=True) for n, v in arguments.items() if isinstance(v, Params)}
    options = {n: arguments[n] for n in _OPTIONS if n in arguments}
    return json.dumps(sections.pop("params", {}) | sections | options, ensure_ascii=False, separators=(",", ":"))


def _headline(result: object) -> str:
    """`: patients 60, events 31`: the short values of a result."""
    tree = result.model_dump(mode="json") if isinstance(result, BaseModel) else {}
    shown = [f"{name} {text}" for name, value in tree.items() if (text := _text(value))]
    return f": {', '.join(shown)}" if shown else ""


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    if value is None or value in ("", [], {}):
        return ""
    text = value if isinstance(value, str) else json.dumps(_short(value), ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else ""


def _short(value: Any) -> Any:
    """Floats of a list with four digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return [_short(part) for part in value] if isinstance(value, list) else value
