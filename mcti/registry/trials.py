"""A search in the tracking server: one run for the study and one child run per trial, for any number of workers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcti.registry import lineage, tracking
from mcti.registry.tracking import PARENT

STUDY, TRIAL = "mcti.study", "mcti.trial"


def open_study(experiment: str, study: str, settings: Mapping[str, Any]) -> str:
    """The id of the run of a study; the run is created if it does not exist.

    Raises OperationalError when the server does not respond.
    """
    with tracking.service() as client:
        number = tracking.experiment_id(client, experiment)
        runs = client.search_runs([number], f"tags.`{STUDY}` = '{study}' and tags.`{TRIAL}` = 'all'")
        if runs:
            return str(runs[0].info.run_id)
        parent = tracking.child_tags(tracking.resumed_parent(client)) if lineage.pipeline_run() else {}
        tags = {STUDY: study, TRIAL: "all", "mcti.step": "search", **parent}
        run = client.create_run(number, run_name="search", tags=tags)
        for name, value in settings.items():
            client.log_param(run.info.run_id, name, str(value)[:6000])
        return str(run.info.run_id)


def log_trial(
    parent: str, number: int, state: str, settings: Mapping[str, Any], scores: Mapping[int, float], mean: float | None
) -> None:
    """Log a finished trial once, as a child run of `parent`: state, settings, score of each inner fold, mean.

    scores, mean  C-index, between 0 and 1
    """
    with tracking.service() as client:
        study_run = client.get_run(parent)
        experiment, study = study_run.info.experiment_id, study_run.data.tags[STUDY]
        if client.search_runs([experiment], f"tags.`{PARENT}` = '{parent}' and tags.`{TRIAL}` = '{number}'"):
            return
        tags = {PARENT: parent, STUDY: study, TRIAL: str(number), "mcti.state": state, "mcti.step": "search"}
        run = client.create_run(experiment, run_name=f"trial {number}", tags=tags).info.run_id
        for name, value in settings.items():
            client.log_param(run, name, value)
        for inner, score in sorted(scores.items()):
            client.log_metric(run, "c_index_inner", score, step=inner)
        if mean is not None:
            client.log_metric(run, "c_index", mean)
        client.set_terminated(run, "FAILED" if state == "failed" else "FINISHED")


def close_study(parent: str, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
    """Log the result of a study (scalar metrics, figures, tables) to its run, and end the run."""
    with tracking.service() as client:
        for name, value in metrics.items():
            client.log_metric(parent, name, value)
        for path in files:
            client.log_artifact(parent, str(path), "search")
        client.set_terminated(parent, "FINISHED")
