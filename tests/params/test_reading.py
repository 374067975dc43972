"""Settings: one file, unknown keys and wrong values reported with a hint."""

from pathlib import Path

import pytest
import yaml

from mcti import params
from mcti.errors import DataError, UsageError
from mcti.params.architecture import FIELDS, ArchitectureParams
from mcti.params.base import settings_class

ROOT = Path(__file__).parents[2]


def settings_file(tmp_path, tree):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"train: {epochs: 3}\nsplit: {folds: 4}\ntrain: {seed: 1}\n", "key 'train' is repeated in .*, line 3: merge"),
        (b"train:\n  epochs: 3\n  seed: 1\n  epochs: 4\n", "key 'epochs' is repeated in .*, line 4"),
        (b"\xff\xfe", r"not UTF-8 text \(invalid start byte at byte 0\) in .*params.yaml"),
    ],
)
def test_a_repeated_key_and_a_file_that_is_no_text_are_refused(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_bytes(text)
    with pytest.raises(UsageError, match=message):
        params.load(path)


def test_a_section_may_be_merged_into_others(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("train: &t {seed: 3}\nsplit: {<<: *t, folds: 4}\n")
    assert params.load(path).split.seed == 3


def test_the_shipped_file_loads_and_an_override_wins():
    loaded = params.load("params.yaml", ["train.epochs=3", "extract.tissue.min_area_mm2=0.1"])
    assert loaded.train.epochs == 3
    assert loaded.extract.tissue.min_area_mm2 == 0.1
    assert loaded.ingest.notice == "painted slides: not a clinical result"


def test_without_a_file_the_defaults_hold():
    assert params.load(None).train.preset == "compact"


@pytest.mark.parametrize(
    ("override", "what", "key", "hint"),
    [
        ("train.epoch=3", "unknown key 'epoch'", "train.epoch", "did you mean epochs?"),
        ("trian.epochs=3", "unknown key 'trian'", "trian", "did you mean train?"),
        ("extract.tissue.min_area=1", "unknown key 'min_area'", "extract.tissue.min_area", "min_area_mm2"),
        ("train.epochs=many", "'many' does not fit", "train.epochs", "integer"),
        ("train.epochs='3'", "'3' does not fit", "train.epochs", "integer"),
        ("train.alpha=1.5", "1.5 does not fit", "train.alpha", "less than or equal to 1"),
        ("promote.margin=.nan", "nan does not fit", "promote.margin", "finite number"),
        ("promote.max_latency_ratio=.inf", "inf does not fit", "promote.max_latency_ratio", "finite number"),
        ("promote.benchmark_patches=1000000000", "1000000000 does not fit", "promote.benchmark_patches", "200000"),
        ("extract.resolution=500", "500 does not fit", "extract.resolution", "µm/px"),
        ("ingest.time_unit=weeks", "'weeks' does not fit", "ingest.time_unit", "'days', 'months' or 'years'"),
        ("cluster.cron=30 2 * * *", "no schedule of six fields", "cluster.cron", "second, minute, hour"),
        ("cluster.cron=0 99 2 * * *", "no schedule of six fields", "cluster.cron", "second, minute, hour"),
        ("cluster.cron=0 0 3 1 FOO *", "no schedule of six fields", "cluster.cron", "SUN-SAT"),
        ("cluster.cron=0 0 5-3 1 * *", "no schedule of six fields", "cluster.cron", "SUN-SAT"),
        ("cluster.cron=0 0 3 * * fri-mon", "no schedule of six fields", "cluster.cron", "SUN-SAT"),
        ("cluster.steps.train.cpu=0", "'0' does not fit", "cluster.steps.train.cpu", "cores"),
        ("cluster.steps.train.cpu=0m", "'0m' does not fit", "cluster.steps.train.cpu", "cores"),
        ("cluster.steps.train.cpu=-1", "'-1' does not fit", "cluster.steps.train.cpu", "cores"),
        ("cluster.steps.train.memory=0Gi", "'0Gi' does not fit", "cluster.steps.train.memory", "16Gi"),
        ("cluster.steps.train.shared_memory=0Gi", "'0Gi' does not fit", "shared_memory", "/dev/shm"),
        ("cluster.gpu_resource=a gpu", "'a gpu' does not fit", "cluster.gpu_resource", "resource name"),
        ("cluster.secrets={Bad_Name: {a: B}}", "'Bad_Name' does not fit", "cluster.secrets", "pattern"),
        ("cluster.secrets={s: {a: no variable}}", "'no variable' does not fit", "cluster.secrets", "pattern"),
        ("cluster.node_labels={a: b c}", "'b c' does not fit", "cluster.node_labels", "pattern"),
        ("cluster.claims={c: /tmp}", "a claim in '/tmp'", "cluster.claims", "mounted already"),
        ("cluster.claims={c: scratch}", "a claim in 'scratch'", "cluster.claims", "separate absolute folder"),
        ("cluster.claims={c: /a, d: /a/}", "a claim in '/a'", "cluster.claims", "separate absolute folder"),
        ("train.horizons_months=[-5]", "-5 months", "train.horizons_months", "above 0"),
        ("evaluate.horizons_months=[0, 12]", "0 months", "evaluate.horizons_months", "above 0"),
        ("train.horizons_months=[36, 12, 36.0]", "36 months are listed twice", "train.horizons_months", "once"),
        ("train.lambda_survival=0", "0 does not fit", "train.lambda_survival", "greater than 0"),
        ("search.space={}", "search.space is empty", "search.space", "name at least one setting"),
        ("search.space={epoch: [1, 9]}", "search.space names 'epoch'", "search.space", "did you mean epochs?"),
    ],
)
def test_an_invalid_setting_is_reported_with_its_key_and_a_hint(override, what, key, hint):
    with pytest.raises(UsageError) as caught:
        params.load("params.yaml", [override])
    assert what in caught.value.what
    assert key in caught.value.where
    assert hint in caught.value.hint


@pytest.mark.parametrize("cron", ["0 0 3 1 * *", "0 */5 0-6,22 ? JAN-mar,9 Mon-FRI", "59 59 23 31 12 6"])
def test_a_schedule_may_be_written_as_the_server_reads_it(cron):
    assert params.load(None, [f"cluster.cron={cron}"]).cluster.cron == cron


@pytest.mark.parametrize(("written", "meant"), [("4", "4"), ("1.5", "1.5"), ("0.25", "0.25"), ("'500m'", "500m")])
def test_cores_may_be_written_as_a_number(written, meant):
    assert params.load(None, [f"cluster.steps.train.cpu={written}"]).cluster.steps.train.cpu == meant


def test_a_wrong_value_is_sought_where_it_was_written(tmp_path):
    path = settings_file(tmp_path, {"train": {"epochs": -1}})
    with pytest.raises(UsageError) as of_the_file:
        params.load(path, ["train.seed=3"])
    with pytest.raises(UsageError) as of_the_flag:
        params.load(path, ["train.epochs=-2"])
    assert of_the_file.value.where == f"{path}, key train.epochs"
    assert of_the_flag.value.where == "--set, key train.epochs"


@pytest.mark.parametrize("override", ["train.epochs", "train.epochs.deep=1", "train.epochs=[1"])
def test_an_override_that_is_none_is_a_usage_error(override):
    with pytest.raises(UsageError):
        params.load("params.yaml", [override])


def test_a_file_that_is_no_mapping_or_no_yaml_is_refused(tmp_path):
    path = tmp_path / "params.yaml"
    for text in ("- a\n- b\n", "train: [1\n", "train: {epochs: 1"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError):
            params.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.yaml"):
        params.load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train=3", "3 is not a section in --set, key train: write its keys below it: seed, preset, architecture, …"),
        ("train.architecture=[1]", "[1] is not a section in --set, key train.architecture: write its keys below it:"),
        ("search.space.learning_rate=3", "search.space has 3 for learning_rate in --set, key search.space: set [low"),
        ("cluster.secrets={A_b: {a: B}}", "'A_b' does not fit in --set, key cluster.secrets.A_b: string should match"),
        ("train.architecture.encoder_depths=[1, 2]", "[1] does not fit in --set, key train.architecture.decoder"),
        ("search.space.width=[8, 16]", "search.space names 'width', no setting of train in --set, key search.space: "
         "did you mean architecture.width?"),
        ("search.space.architecture.widht=[8, 16]", "no setting of train.architecture in --set, key search.space: did"),
    ],
)  # fmt: skip
def test_an_error_names_the_key_as_written_and_its_source(override, message):
    with pytest.raises(UsageError) as caught:
        params.load("params.yaml", [override])
    assert message in str(caught.value)


def test_the_search_space_may_be_written_as_sections(tmp_path):
    space = {"learning_rate": [0.001, 0.01], "architecture": {"width": [16, 32]}, "bins": {"count": [2, 8]}}
    written = params.load(settings_file(tmp_path, {"search": {"space": space}})).search.space
    assert written == {"learning_rate": [0.001, 0.01], "architecture.width": [16, 32], "bins.count": [2, 8]}
    loaded = params.load("params.yaml", ["search.space.architecture.width=[16, 32]"]).search.space
    assert loaded["architecture.width"] == [16, 32]


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        params.load(None).train.epochs = 3


@pytest.mark.parametrize("section", ["validate", "train", "cluster"])
def test_an_empty_section_has_its_defaults(tmp_path, section):
    """`validate:` without a key, as DVC reads it."""
    assert params.load(settings_file(tmp_path, {section: None})) == params.load(None)


def test_an_empty_inner_section_has_its_defaults_and_an_optional_one_is_null():
    settings = params.load(None, ["train.bins=", "extract.tissue=", "train.architecture=", "cluster.quota="])
    assert settings.train == params.load(None).train
    assert settings.extract == params.load(None).extract
    assert settings.cluster.quota is None


def test_an_empty_row_of_the_task_table_has_the_defaults_of_that_row():
    assert params.load(None, ["cluster.steps.extract="]).cluster.steps == params.load(None).cluster.steps


def test_the_template_has_every_section_that_dvc_reads():
    """DVC 3.67.1 deletes the outputs of a stage before it reports a missing section."""
    template = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    keys = {key for stage in stages.values() for key in stage.get("params", ())}
    assert {key.partition(".")[0] for key in keys} >= {"ingest", "validate", "extract", "split", "search", "train"}
    assert {key.partition(".")[0] for key in keys} <= set(template)
    assert set(template) == {field.alias or name for name, field in params.Settings.model_fields.items()}


def settings_of(model, path=""):
    """(dotted key, field) of every plain setting, at every depth."""
    for name, field in model.model_fields.items():
        inner = settings_class(field.annotation)
        key = f"{path}{field.alias or name}"
        if inner is ArchitectureParams:
            yield from ((f"{key}.{child}", info) for child, info in FIELDS.items())
        elif inner:
            yield from settings_of(inner, f"{key}.")
        else:
            yield key, field


def test_every_setting_has_a_description_and_every_number_has_bounds():
    settings = dict(settings_of(params.Settings))
    assert len(settings) > 250
    assert [key for key, field in settings.items() if not field.description] == []
    numbers = {
        key: field for key, field in settings.items() if field.annotation in (int, float, int | None, float | None)
    }
    limits = ("ge", "gt", "le", "lt")
    unbounded = [
        key
        for key, field in numbers.items()
        if not any(getattr(part, limit, None) is not None for part in field.metadata for limit in limits)
    ]
    assert unbounded == []


def test_every_setting_has_a_row_in_the_page():
    page = (ROOT / "docs" / "params.md").read_text(encoding="utf-8")
    for key, _ in settings_of(params.Settings):
        section, _, name = key.rpartition(".")
        part = page.split(f"\n## {section}\n", 1)
        assert len(part) == 2, section
        assert f"\n| {name} |" in part[1].split("\n## ", 1)[0], key


@pytest.mark.parametrize(
    ("override", "key", "hint"),
    [
        ("train.architecture.widht=3", "train.architecture.widht", "did you mean width?"),
        ("train.architecture.width=wide", "train.architecture.width", "valid integer"),
        ("train.architecture.heads=3", "train.architecture.heads", "a divisor of width 32 (preset compact)"),
        ("train.architecture.plan_gradient=true", "train.architecture.plan_gradient", "solver assignment"),
        ("train.architecture.covariates=[age, age]", "train.architecture.covariates", "list each name once"),
        (
            "train.architecture.encoder_depths=[1, 2]",
            "train.architecture.decoder_depths",
            "each of the 2 encoder stages",
        ),
        ("search.space={architecture.widht: [8, 16]}", "search.space", "did you mean width?"),
        ("search.space={bins.cuont: [2, 8]}", "search.space", "did you mean count?"),
        ("search.space={architecture.width: [0, 16]}", "search.space", "greater than or equal to 1"),
        ("search.space={optimizer: [adamw, adafactor, sgd]}", "search.space", "'adamw' or 'bf16_adafactor'"),
        ("search.space={architecture: [1, 2]}", "search.space", "architecture.width"),
        ("train.horizons_months=3", "train.horizons_months", "input should be a valid list"),
        ("cluster.secrets=3", "cluster.secrets", "input should be a valid mapping"),
        ("validate.event_rate=[0.9, 0.1]", "validate.event_rate", "low first"),
        ("extract.import.fromat=pt", "extract.import.fromat", "did you mean format?"),
        ("cluster.gpu_tolerations=[{ky: a}]", "cluster.gpu_tolerations.0.ky", "did you mean key?"),
        ("extract.import={format: pt}", "extract.import.path", "set it (file or folder of the set"),
        ("search.space.architecture.heads.x=3", "search.space", "set [low, high]"),
    ],
)
def test_an_architecture_field_is_checked_when_the_file_is_loaded(override, key, hint):
    with pytest.raises(UsageError) as caught:
        params.load("params.yaml", [override])
    assert key in caught.value.where
    assert hint in caught.value.hint


def test_architecture_fields_keep_their_names_and_only_the_changes_are_stored():
    settings = params.load(None, ["train.architecture={critical: 64, encoder_depths: [2], decoder_depths: [1]}"])
    assert settings.train.architecture.changes() == {"critical": 64, "encoder_depths": (2,), "decoder_depths": (1,)}
    stored = settings.train.model_dump(mode="json")["architecture"]
    assert stored == {"critical": 64, "encoder_depths": [2], "decoder_depths": [1]}
    assert params.TrainParams.model_validate({"architecture": stored}) == settings.train


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{yes: 1, no: 0}", {"yes": 1, "true": 1, "on": 1, "no": 0, "false": 0, "off": 0}),
        ("{TRUE: 1, FALSE: 0}", {"yes": 1, "true": 1, "on": 1, "no": 0, "false": 0, "off": 0}),
        ("{'yes': 1, 'no': 0}", {"yes": 1, "no": 0}),
        ("{2: 1, 1: 0}", {"2": 1, "1": 0}),
        ("{dead: 1, alive: 0}", {"dead": 1, "alive": 0}),
    ],
)
def test_words_of_events_that_yaml_takes_for_truth_values_or_numbers_stay_words(text, words):
    assert params.load(None, [f"ingest.event_values={text}"]).ingest.event_values == words


@pytest.mark.parametrize("text", ["5e-3", "5E-3", "+5e-3", "5.e-3", ".5e-2", "0.5e-02", "5.0e-3"])
def test_a_power_of_ten_is_a_number_as_in_yaml_1_2(text, tmp_path):
    assert params.load(None, [f"train.learning_rate={text}"]).train.learning_rate == 0.005
    path = tmp_path / "params.yaml"
    path.write_text(f"train: {{learning_rate: {text}}}\n", encoding="utf-8")
    assert params.load(path).train.learning_rate == 0.005


def test_a_name_that_begins_like_a_power_of_ten_stays_a_name():
    assert params.load(None, ["ingest.name=5e-3x"]).ingest.name == "5e-3x"


@pytest.mark.parametrize(
    "key",
    [
        "evaluate.confidence", "evaluate.uno_tau_quantile", "explain.seed", "extract.slides", "monitor.horizon_months",
        "monitor.seed", "promote.seed", "promote.uno_tau_quantile", "search.heartbeat_seconds", "validate.age_years",
        "validate.max_followup_months",
    ],
)  # fmt: skip
def test_a_removed_setting_is_an_unknown_key(key):
    """docs/decisions/0006-fewer-settings.md"""
    with pytest.raises(UsageError, match=f"unknown key '{key.partition('.')[2]}'") as caught:
        params.load(None, [f"{key}=1"])
    assert key in caught.value.where
    assert caught.value.hint.startswith("delete it: this setting was removed")
