"""The step `extract`: one feature file per slide, and a table with the status of every slide."""

from pydantic import Field

from mcti.params import ExtractParams
from mcti.progress import Progress
from mcti.registry.pipeline_run import tracked
from mcti.registry.refusals import cache_refusals
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged
from mcti.storage import Location


class ExtractResult(StepResult):
    """Counts of the cohort. `extracted`: slides that this run processed; the files of the others existed before."""

    slides: int
    ok: int
    tiles: int
    failed_tiles: int
    statuses: dict[str, int]
    encoder: str
    extracted: int = Field(0, exclude=True)


@logged
@tracked
def extract(
    slides: Location,
    params: ExtractParams,
    out: Location,
    *,
    shard: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> ExtractResult:
    """Extract the features of every slide in a manifest (CSV, Parquet) or folder, or import ready-made ones.

    Reads   slides, and the files that they name; with params.source `import` only the ids and `mpp` of the slides, and
            the files of params.import_.path
    Writes  out/<slide_id>.h5, previews/<slide_id>.jpg and masks/<slide_id>.geojson, each complete or absent; at the
            end out/slides.csv, contact sheets and result.json. With `shard` (i, n), 0 <= i < n: only the slides of
            shard i, and slides-<i>-of-<n>.csv in place of slides.csv (then call `merge_shards`). During the run
            heartbeat.json (with `shard`: heartbeat-<i>-of-<n>.json) is renewed every 15 s. `out` may be an s3://
            address: each slide is uploaded when it is complete.
            The files of a slide that was read and fails are removed. The files of slides that are unavailable or not
            in the list are kept. An import writes no pictures.
    Raises  DataError when the manifest is wrong, more slides fail than params.max_failed_slides_share allows (the
            table is written first), or no file of features is named after a slide
            UsageError when the encoder does not fit the settings, or the shard does not exist
            OperationalError when the disk is full, S3 does not answer, or a package is missing
    """
    from mcti.steps import slide_extraction

    return slide_extraction.run(slides, params, out, shard, progress)


@cache_refusals
def merge_shards(out: Location, params: ExtractParams, shard_count: int | None = None) -> ExtractResult:
    """Join the tables of all shards in `out` into slides.csv; the result in `out` equals that of a single run.

    shard_count     number of shards; None: the number in the names of the tables
    Raises  DataError when the table of a shard is missing, or too many slides failed
    """
    from mcti.steps import slide_extraction

    return slide_extraction.merge(out, params, shard_count)
