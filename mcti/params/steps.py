"""The settings of each step, a section of `params.yaml` each."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mcti.params.base import Params

AGE_YEARS = (0.0, 120.0)
"""Ages that can be: the default of the contract, and what a prediction accepts."""


def _each_month_once(months: tuple[float, ...]) -> tuple[float, ...]:
    """Months above 0 whose columns (`S_36`) have different names."""
    names = [f"{month:g}" for month in months]
    if wrong := [name for month, name in zip(months, names, strict=True) if month <= 0]:
        raise ValueError(f"{wrong[0]} months: give months after the start of the follow-up, above 0")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} months are named twice: name each once")
    return months


class IngestParams(Params):
    """Which tables come in, and how their words are to be read."""

    name: str = Field("cohort", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="name of the cohort")
    notice: str = Field("", description="a sentence that every report of this cohort shows")
    clinical: str = Field("data/raw/clinical.csv", description="clinical table: path or s3:// address")
    expression: str = Field("data/raw/expression.csv", description="expression table: path or s3:// address")
    slides: str | None = Field(
        "data/raw/slides.csv", description="slide manifest: path or s3:// address; null without slides"
    )
    format: Literal["canonical", "mcat", "xena", "tcga-cbioportal", "gdc"] = Field(
        "canonical", description="layout of the tables"
    )
    time_unit: Literal["days", "months", "years"] = Field(
        "months", description="unit of the follow-up times (canonical, mcat); the other layouts fix it"
    )
    endpoint: Literal["OS", "DSS", "DFI", "PFI", "DMFS"] = Field(
        "OS", description="which end point event and time describe"
    )
    columns: dict[str, str] = Field(
        {}, description="canonical column -> column of the source where it has another name, e.g. {subtype: histology}"
    )
    covariates: tuple[str, ...] | None = Field(
        None,
        strict=False,
        description="source columns kept as covariates; null: every further column (canonical), none (other layouts)",
    )
    event_values: dict[str, int] = Field(
        {}, description="words of the event column and their meaning, e.g. {dead: 1, alive: 0} or {yes: 1, no: 0}"
    )
    age_values: dict[str, float] = Field(
        {}, description='masked ages and the years that stand for them, e.g. {">89": 90, "<18": 17}'
    )
    event_confirmed: bool = Field(
        False,
        description="true: the provider of the table confirmed that event 1 means observed; answers the question of "
        "`mcti validate` where event rate and times leave it open",
    )
    expression_scale: Literal["counts", "tpm", "log2", "z-score"] = Field(
        "log2", description="scale of the expression values"
    )
    missing_modality: Literal["drop", "keep"] = Field(
        "drop", description="patients without slides or genes: left out, or kept"
    )

    @field_validator("event_values", mode="before")
    @classmethod
    def _words_as_written(cls, words: Any) -> Any:
        """YAML reads the words yes, true and on as one truth value and 2 as a number: here they are words again."""
        if not isinstance(words, Mapping):
            return words
        spelled = {True: ("yes", "true", "on"), False: ("no", "false", "off")}
        found: dict[Any, Any] = {}
        for word, meaning in words.items():
            same = spelled[word] if isinstance(word, bool) else (str(word),)
            found.update(dict.fromkeys(same, meaning))
        return found


class ValidateParams(Params):
    """Limits of the data contract (docs/cohort.md lists the expectations that use them)."""

    min_patients: int = Field(30, ge=2, description="fewer patients stop the run")
    min_events: int = Field(20, ge=1, description="fewer events stop the run")
    folds_planned: int = Field(5, ge=2, description="outer folds for which the events must suffice")
    min_events_per_fold: int = Field(5, ge=0, description="fewer events a planned fold are a warning")
    min_events_per_subtype: int = Field(3, ge=0, description="fewer events in a subtype are a warning")
    min_events_per_site: int = Field(0, ge=0, description="fewer events at a site are a warning")
    event_rate: tuple[float, float] = Field(
        (0.02, 0.98), description="share of events outside this range stops the run", strict=False
    )
    median_followup_months: tuple[float, float] = Field(
        (1.0, 250.0), description="reverse Kaplan-Meier median outside stops the run", strict=False
    )
    age_years: tuple[float, float] = Field(AGE_YEARS, description="an age outside stops the run", strict=False)
    max_followup_months: float = Field(1200.0, gt=0, description="a longer follow-up of one patient stops the run")
    max_tied_share: float = Field(0.1, ge=0, le=1, description="more patients with one and the same time are a warning")
    max_early_censored_share: float = Field(
        0.2, ge=0, le=1, description="more patients censored within three months are a warning"
    )
    max_no_followup_share: float = Field(0.1, ge=0, le=1, description="more patients without follow-up are a warning")
    max_missing_share: float = Field(0.2, ge=0, le=1, description="a covariate or gene missing more often is a warning")
    max_site_variance: float = Field(
        0.1, ge=0, le=1, description="mean share of a gene's variance that the site explains; more is a warning"
    )
    max_site_predictability: float = Field(
        0.5, ge=0, le=1, description="how well expression tells the site, 0 chance to 1 always; more is a warning"
    )
    max_sex_mismatch_share: float = Field(
        0.0, ge=0, le=1, description="more patients whose XIST/RPS4Y1 contradict is_female are a warning"
    )
    max_er_mismatch_share: float = Field(
        0.15, ge=0, le=1, description="more patients whose ESR1 contradicts the receptor status are a warning"
    )
    max_abs_z: float = Field(
        20.0, gt=0, description="a gene with a larger absolute value, where z-scores are declared, is a warning"
    )
    max_slides_per_patient: int = Field(20, ge=1, description="more slides of a patient are a warning")
    max_failed_slides_share: float = Field(0.1, ge=0, le=1, description="more slides without features stop the run")
    min_tiles_per_patient: int = Field(1, ge=1, description="fewer tiles of a patient are a warning")
    reference_profile: str | None = Field(
        None, description="profile.json of the data version last accepted, for the drift"
    )
    experiment: str | None = Field(
        "mcti", min_length=1, description="MLflow experiment to log to where a server is named; null: do not log"
    )


class TissueParams(Params):
    """How tissue is told from glass, pen and padding."""

    resolution: float = Field(8.0, gt=0, description="µm/px of the picture on which tissue is sought")
    min_area_mm2: float = Field(0.02, ge=0, description="smaller islands of tissue are dropped")
    max_hole_mm2: float = Field(0.02, ge=0, description="smaller holes are filled")
    min_tissue_fraction: float = Field(0.5, gt=0, le=1, description="share of a tile that must be tissue")
    min_sharpness: float = Field(
        10.0, ge=0, description="variance of a tile's Laplacian (grey levels²) below which it is out of focus; 0: keep"
    )
    masks: str | None = Field(
        None, description="folder of <slide_id>.geojson areas (QuPath) taken in place of the found tissue"
    )


class ExtractParams(Params):
    """Slides to patch features."""

    slides: str = Field("data/raw/slides.csv", description="slide manifest or folder: path or s3:// address")
    encoder: str = Field("hed44", description="hed44 | lite0 | timm:NAME[@FILE] | onnx:FILE")
    resolution: float = Field(0.5, ge=0.05, le=40, description="target resolution in µm/px")
    tile: int = Field(256, ge=32, le=2048, description="tile edge in pixels at the target resolution")
    overlap: int = Field(0, ge=0, description="pixels by which neighbouring tiles overlap, at the target resolution")
    dtype: Literal["float32", "float16"] = Field("float32", description="type of the stored features")
    reader: Literal["auto", "tiff", "dicom", "openslide", "flat"] = Field(
        "auto", description="auto: the direct reader (tiff, dicom) where it can, else OpenSlide"
    )
    accept_licences: tuple[str, ...] = Field(
        (), description="restricted encoders whose licence you hold, e.g. [uni]", strict=False
    )
    workers: int = Field(0, ge=0, description="threads that decode and encode; 0: one per core")
    cache: str | None = Field(
        None, description="folder for copies of slides on S3 while they are in work; default: the temporary folder"
    )
    cache_gib: float = Field(50.0, gt=0, description="GiB that such copies may take at once; deleted after use")
    slide_minutes: float = Field(0, ge=0, description="a slide that takes longer fails as TIMED_OUT; 0: no limit")
    max_failed_tiles_share: float = Field(0.05, ge=0, le=1, description="a slide with more unreadable tiles fails")
    max_failed_slides_share: float = Field(0.1, ge=0, le=1, description="a cohort with more failed slides exits with 3")
    tissue: TissueParams = TissueParams()


class SplitParams(Params):
    """Folds, by patient always."""

    seed: int = Field(7, ge=0)
    scheme: Literal["stratified", "site", "leave-one-site-out", "time", "files"] = Field(
        "stratified", description="how patients are dealt to folds (docs/cohort.md)"
    )
    folds: int = Field(5, ge=2, le=50, description="outer folds; leave-one-site-out has one a site, files one a file")
    repeats: int = Field(1, ge=1, le=50, description="repetitions with other shuffles (stratified, site)")
    inner_folds: int = Field(3, ge=2, le=20, description="inner folds of the search, inside each training part")
    time_column: str | None = Field(None, description="scheme time: a numeric covariate that grows with calendar time")
    files: str | None = Field(None, description="scheme files: folder of MCAT split CSVs")
    missing_modality: Literal["drop", "keep"] = Field(
        "drop", description="patients without features of a slide: left out, or kept"
    )
    min_test_events: int = Field(10, ge=0, description="fewer events in a test part are a warning (docs/protocol.md)")


class BinParams(Params):
    """Discrete time, cut on the training fold."""

    count: int = Field(4, ge=2, le=64, description="time bins B")
    placement: Literal["quantile", "uniform"] = Field("quantile", description="of the training fold's uncensored times")


class TrainParams(Params):
    """One model a fold."""

    seed: int = Field(7, ge=0)
    preset: Literal[
        "paper", "compact", "tiny",
        "snn", "mean_pool", "abmil", "transmil", "late_fusion", "mcat", "motcat",
        "no_subtype_task", "no_gene_grouping", "uniform_plan", "shuffled_plan", "no_guidance", "no_axes",
        "no_bilinear",
    ] = Field("compact", description="architecture (docs/model.md); a peer or an ablation for comparison")  # fmt: skip
    architecture: dict[str, Any] = Field({}, description="fields of the preset to change, e.g. {critical: 64}")
    bins: BinParams = BinParams()
    epochs: int = Field(4, ge=1, description="epochs; the last weights are the model")
    batch_patients: int = Field(64, ge=1, description="patients a step")
    bag_cap: int = Field(4096, ge=1, description="patches of a patient drawn in training; evaluation takes all")
    learning_rate: float = Field(5e-3, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    gene_transform: Literal["none", "winsor", "rank"] = Field(
        "none",
        description="before genes are standardised, fitted on the training part: winsor: cut at its 1 % and 99 % "
        "quantiles; rank: normal scores of its quantiles; for declared z-scores with extreme values",
    )
    optimizer: Literal["adamw", "bf16_adafactor"] = Field(
        "adamw",
        description="bf16_adafactor: bf16 matrices, factored moments, 4 bytes per weight; needs precision bf16",
    )
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the steps with a rising learning rate")
    clip_norm: float = Field(1.0, gt=0, description="gradients longer than this are shortened to it")
    micro_patients: int = Field(0, ge=0, description="patients of a step in memory at once; 0: all of them")
    ema: float = Field(0.0, ge=0, lt=1, description="decay a step of the averaged weights that are kept; 0: the last")
    survival_loss: Literal["nll", "cox", "ranking"] = Field(
        "nll", description="discrete-time likelihood; the others add their term to it on the risks of a step"
    )
    cox_ties: Literal["efron", "breslow"] = Field("efron", description="tied event times in the Cox likelihood")
    pair_memory: int = Field(
        0, ge=0, description="patients of former steps that cox and ranking compare with, at their last risk"
    )
    alpha: float = Field(0.3, ge=0, le=1, description="weight of the uncensored terms in the survival loss")
    lambda_survival: float = Field(1.0, gt=0)
    lambda_subtype: float = Field(0.3, ge=0)
    lambda_instance: float = Field(0.3, ge=0)
    modalities: Literal["both", "slides", "genes"] = Field(
        "both", description="what training and its models read; the other modality is left aside"
    )
    modality_dropout: float = Field(
        0.0, ge=0, lt=1, description="chance of hiding slides or genes of a training patient"
    )
    patience: int = Field(
        0, ge=0, description="epochs without a better inner validation loss before training stops; 0: never, see epochs"
    )
    validation_share: float = Field(
        0.2, gt=0, lt=0.5, description="share of the training part held out for `patience`; without it nobody is"
    )
    recalibration_folds: int = Field(
        0,
        ge=0,
        le=10,
        description="inner folds whose models put the survival curves right (3: thrice the time); 0: none",
    )
    cox_weight: float = Field(
        0.5,
        ge=0,
        le=1,
        description="weight of a ridge Cox model on the same inputs in the hazard logits; 0: the network alone",
    )
    precision: Literal["float32", "bf16", "fp16"] = Field(
        "float32", description="arithmetic of the forward pass; fp16 scales the loss"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto")
    threads: int = Field(
        1,
        ge=1,
        description="threads of one training process; fixed, so that the bits do not depend on the machine's load",
    )
    workers: int = Field(0, ge=0, description="folds trained at the same time; 0: one per core")
    checkpoint_seconds: float = Field(20.0, ge=0, description="least time between two checkpoints of a run")
    horizons_months: tuple[float, ...] = Field(
        (12.0, 36.0, 60.0), min_length=1, description="months at which S(t) is written", strict=False
    )

    _horizons = field_validator("horizons_months")(_each_month_once)

    @model_validator(mode="after")
    def _bf16_adafactor_needs_bf16(self) -> Self:
        if self.optimizer == "bf16_adafactor" and self.precision != "bf16":
            raise ValueError(
                f"optimizer bf16_adafactor trains in bf16, and precision is {self.precision}: set it to bf16"
            )
        return self

    @model_validator(mode="after")
    def _two_inner_folds(self) -> Self:
        if self.recalibration_folds == 1:
            raise ValueError("recalibration_folds 1 leaves nobody to train on: set it to 0 (none) or 2 and more")
        return self


class SearchParams(Params):
    """Optuna over the inner folds."""

    seed: int = Field(7, ge=0)
    trials: int = Field(8, ge=1, description="trials, pruned ones included; the first has the settings of train")
    parallel_trials: int = Field(
        2, ge=1, le=64, description="trials chosen at a time; more keeps more cores busy, and learns less from each"
    )
    wilcoxon_p_threshold: float = Field(
        0.3, ge=0, le=1, description="a trial worse than the best by a Wilcoxon test at this level is given up"
    )
    timeout_minutes: float = Field(0, ge=0, description="stop asking for new trials after so many minutes; 0: no limit")
    epochs: int = Field(6, ge=1, description="epochs of a trial")
    outer_fold: int = Field(
        0, ge=0, description="the outer fold whose training part is searched; its test part is never read"
    )
    space: dict[str, list[float] | list[str] | list[int]] = Field(
        {"learning_rate": [3e-4, 1e-2], "weight_decay": [1e-4, 1e-1], "lambda_subtype": [0.05, 1.0]},
        description="name of a train setting -> [low, high] (log scale) or a list of three or more choices",
    )
    storage: str | None = Field(
        None,
        description="null: a SQLite file beside the result; postgresql://…: shared by all `mcti search` that run",
    )
    heartbeat_seconds: int = Field(
        30,
        ge=1,
        description="PostgreSQL: a worker's trial tells that often that it lives; silent for two, it is retried",
    )
    wait_minutes: float = Field(30, ge=0, description="PostgreSQL: how long an unreachable server is waited for")
    warm_start: str | None = Field(
        None,
        description="a model (models:/NAME@champion or a folder) whose settings are tried right after those of train",
    )
    experiment: str = Field(
        "mcti", min_length=1, description="MLflow experiment of the trials, where a server is named"
    )
    nested: bool = Field(
        False,
        description="true: a search for each outer fold inside its own training part; false: one search on "
        "`outer_fold`, whose settings all folds take, so that it sees test patients of the others",
    )


class EvaluateParams(Params):
    """Metrics, baselines, intervals."""

    seed: int = Field(7, ge=0)
    bootstrap: int = Field(1000, ge=100, le=100_000, description="resamples of patients behind each interval")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="level of the intervals")
    horizons_months: tuple[float, ...] = Field(
        (12.0, 36.0, 60.0),
        min_length=1,
        description="months of AUC, Brier and calibration; a part of train's",
        strict=False,
    )
    baselines: tuple[str, ...] = Field(
        ("kaplan_meier", "cox_clinical", "cox_genes", "cox_clinical_genes", "linear_all", "forest", "boosting"),
        description="fitted on the same folds (docs/evaluation.md); linear_all and cox_slides need slides",
        strict=False,
    )
    primary_baseline: str = Field("cox_clinical_genes", description="the one contrast that is not adjusted by Holm")
    uno_tau_quantile: float = Field(
        0.8, gt=0, lt=1, description="Uno's C counts events before this quantile of the training follow-up"
    )
    risk_groups: int = Field(
        2, ge=2, le=4, description="groups of the Kaplan-Meier figure; cuts come from the training fold"
    )
    attribution_patients: int = Field(
        40, ge=0, description="test patients whose attribution gives the share of each part of the model; 0: none"
    )

    _horizons = field_validator("horizons_months")(_each_month_once)

    @model_validator(mode="after")
    def _primary_is_fitted(self) -> Self:
        if self.primary_baseline not in self.baselines:
            raise ValueError(
                f"primary_baseline {self.primary_baseline!r} is not fitted: add it to baselines, "
                "or name one of: " + ", ".join(self.baselines)
            )
        return self


class RegisterParams(Params):
    """Where a trained model is registered."""

    name: str = Field("mcti", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", description="registered model")
    experiment: str = Field("mcti", min_length=1, description="MLflow experiment")
    predictor: Literal["cv_ensemble", "refit"] = Field(
        "cv_ensemble",
        description="who predicts new patients: the mean of the folds, or `mcti train --refit` on everybody",
    )
    intended_use: str = Field("", description="for the model card: who may use it for what; empty: a gap")
    data_licence: str = Field("", description="licence of the data, for the model card; empty: a gap")
    contact: str = Field("", description="who answers for the model, for the model card; empty: a gap")


class PromoteParams(Params):
    """The gates between challenger and champion (docs/registry.md)."""

    seed: int = Field(7, ge=0)
    bootstrap: int = Field(2000, ge=100, le=100_000, description="paired resamples of patients")
    margin: float = Field(0.0, description="Uno's C by which the challenger must lead (lower end of the interval)")
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="chance of a false promotion over all looks at one set of test patients"
    )
    looks: int = Field(10, ge=1, le=1000, description="judgements among which `alpha` is spent; then new patients")
    spending: Literal["pocock", "obrien-fleming"] = Field(
        "pocock", description="pocock: nearly even; obrien-fleming: next to nothing at first (Lan and DeMets 1983)"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="level of the non-inferiority intervals")
    min_events: int = Field(20, ge=1, description="fewer events: not enough evidence")
    uno_tau_quantile: float = Field(0.8, gt=0, lt=1, description="Uno's C counts events before this follow-up quantile")
    ibs_margin: float = Field(0.01, ge=0, description="integrated Brier score by which the challenger may be worse")
    calibration_margin: float = Field(
        0.05, ge=0, description="integrated calibration index (last horizon) by which it may be worse"
    )
    group_margin: float = Field(0.1, ge=0, description="Uno's C by which it may fall behind in a group or regime")
    group_min_events: int = Field(
        50, ge=10, description="from so many events on a group must show non-inferiority; below, only shown harm counts"
    )
    max_latency_ratio: float = Field(
        2.0, gt=0, description="processor time of a prediction as a multiple of the champion's, at most"
    )
    max_memory_ratio: float = Field(
        2.0, gt=0, description="peak tensor memory as a multiple of the champion's, at most"
    )
    benchmark_patches: int = Field(
        1000, ge=1, le=200_000, description="patches of the made-up patient that latency is measured on"
    )
    require_contract: bool = Field(True, description="a version without a result of `mcti validate` is left open")
    approvals: int = Field(
        0, ge=0, le=10, description="people who must have approved (`mcti approve`); 2: two-person rule"
    )


class ExplainParams(Params):
    """What the risk of a patient consists of (docs/explain.md)."""

    seed: int = Field(7, ge=0, description="of the clusters of patches")
    steps: int = Field(64, ge=8, le=4096, description="points of the integrated gradients; more, a smaller gap")
    clusters: int = Field(6, ge=1, le=50, description="clusters of a patient's patches")
    group_genes: int = Field(50, ge=3, description="genes of a group that are listed and tested for gene sets")


class PredictParams(Params):
    """How patients are predicted (docs/serving.md)."""

    risk_groups: int = Field(2, ge=2, le=4, description="groups by quantiles of the out-of-fold risks of training")
    workers: int = Field(0, ge=0, description="processes; 0: one a core. The bits do not depend on it")
    max_refused_share: float = Field(
        0.0, ge=0, le=1, description="more patients who cannot be predicted exit with 3; the others are written anyway"
    )


class ServeParams(Params):
    """The server of a model (docs/serving.md)."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0: a free one")
    max_request_mb: int = Field(256, ge=1, description="a larger request gets 400 before it is parsed")
    request_seconds: int = Field(60, ge=1, description="a request that takes longer gets 504")


class MonitorParams(Params):
    """When the model in use is to be trained again (docs/monitoring.md)."""

    seed: int = Field(7, ge=0)
    experiment: str = Field("mcti-monitor", min_length=1, description="MLflow experiment of the history")
    rules: tuple[Literal["performance", "drift", "events", "age"], ...] = Field(
        ("performance", "drift", "events", "age"),
        strict=False,
        description="rules in force; the first that fires is named",
    )
    alpha: float = Field(0.01, gt=0, lt=0.5, description="chance of a false drift alarm a run, over all columns")
    min_patients: int = Field(30, ge=5, description="new patients below which nothing is tested for drift")
    min_effect: float = Field(0.2, ge=0, le=1, description="smaller distances of distributions or shares are no drift")
    new_events: int = Field(20, ge=1, description="events of new patients from which on the model is trained again")
    max_age_days: float = Field(365, ge=0, description="days since registration after which it is; 0: never for age")
    min_events: int = Field(20, ge=2, description="fewer events of new patients: performance is not judged")
    bootstrap: int = Field(1000, ge=100, le=100_000, description="resamples for the intervals of the performance")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="level of the intervals of the performance")
    c_margin: float = Field(0.02, ge=0, description="loss of Uno's C that is borne; the interval must lie beyond it")
    calibration_margin: float = Field(
        0.1, ge=0, description="gap of predicted and observed event probability that is borne; likewise"
    )
    horizon_months: float | None = Field(
        None, gt=0, description="horizon of the calibration; null: the longest of the model that follow-up reaches"
    )
    entry_column: str | None = Field(
        None, description="numeric covariate: calendar month of each patient's time zero, needed for `delay_months`"
    )
    delay_months: float = Field(0.0, ge=0, description="months until an event is in the table; later follow-up is cut")

    @model_validator(mode="after")
    def _delay_needs_entry(self) -> Self:
        if self.delay_months and self.entry_column is None:
            raise ValueError("delay_months without entry_column: name the covariate with the month of time zero")
        return self
