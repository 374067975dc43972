"""settings: the settings that each stage depends on, as files."""

from pathlib import Path

from mcti import storage
from mcti.params import Settings
from mcti.params.result_settings import stage_settings
from mcti.steps.result import StepResult


class SettingsResult(StepResult):
    """The stages for which a file was written."""

    stages: tuple[str, ...]


def settings(params: Settings, out: Path) -> SettingsResult:
    """Write, per stage of dvc.yaml, the settings that can change its result: those of its section, defaults filled in.

    The same settings give the same bytes, whether params.yaml states a default or leaves it out.

    Writes  out/<stage>.json: all of them or none
    Raises  OperationalError when `out` cannot be written
    """
    by_stage = stage_settings(params)
    with storage.replacing(out) as draft:
        draft.mkdir()
        for stage, sections in by_stage.items():
            (draft / f"{stage}.json").write_text(storage.to_json(sections), encoding="utf-8")
    return SettingsResult(stages=tuple(by_stage))
