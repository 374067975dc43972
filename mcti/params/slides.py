"""Settings of the slides: tissue detection and patch features."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mcti.params.base import Params, refuse


class TissueParams(Params):
    """Separation of tissue from glass, pen marks and padding."""

    resolution: float = Field(8.0, gt=0, description="µm/px of the overview image in which tissue is detected")
    min_area_mm2: float = Field(0.02, ge=0, description="mm²; smaller regions of tissue are removed")
    max_hole_mm2: float = Field(0.02, ge=0, description="mm²; smaller holes are filled")
    min_tissue_fraction: float = Field(0.5, gt=0, le=1, description="share of a tile that must be tissue")
    min_sharpness: float = Field(
        10.0,
        ge=0,
        description="variance of a tile's Laplacian (grey levels²) below which it is out of focus; 0: keep all tiles",
    )
    masks: str | None = Field(
        None, description="folder of <slide_id>.geojson regions (QuPath) that replace the detected tissue; null: detect"
    )


class ImportParams(Params):
    """Ready-made features of another tool. `unknown` states that a value is not known: then it is not compared."""

    format: Literal["trident", "clam", "stamp", "slide2vec", "pt", "h5", "npy", "parquet", "anndata"] = Field(
        description="layout of the files (docs/slides.md)"
    )
    path: str = Field(min_length=1, description="file or folder of the set: path, s3:// or dvc+s3:// address")
    encoder: str = Field(min_length=1, description="name of the encoder that made the features, or unknown")
    mpp: Annotated[float, Field(gt=0, le=200)] | Literal["unknown"] = Field(
        description="resolution at which the patches were encoded, in µm/px, or unknown"
    )
    patch_size: Annotated[int, Field(ge=1)] | Literal["unknown"] = Field(
        description="edge of a patch in pixels at that resolution, or unknown"
    )


class ExtractParams(Params):
    """Slides, or ready-made features, to the feature store."""

    source: Literal["slides", "import"] = Field(
        "slides", description="slides: encode the tiles of the slides; import: read ready-made features, no slide"
    )
    import_: ImportParams | None = Field(
        None, alias="import", description="the ready-made features; required by extract.source: import"
    )
    encoder: str = Field("hed44", description="hed44 | lite0 | timm:NAME[@FILE] | onnx:FILE")
    resolution: float = Field(0.5, ge=0.05, le=40, description="target resolution in µm/px")
    tile: int = Field(256, ge=32, le=2048, description="tile edge in pixels at the target resolution")
    overlap: int = Field(0, ge=0, description="overlap of neighbouring tiles in pixels at the target resolution")
    dtype: Literal["float32", "float16"] = Field("float32", description="type of the stored features")
    reader: Literal["auto", "tiff", "dicom", "openslide", "flat"] = Field(
        "auto", description="auto: the direct reader (tiff, dicom) where it supports the file, otherwise OpenSlide"
    )
    accept_licences: tuple[str, ...] = Field(
        (), description="restricted encoders for which you have a licence, e.g. [uni]", strict=False
    )
    workers: int = Field(0, ge=0, description="threads that decode and encode; 0: one per core")
    cache: str | None = Field(
        None, description="folder for copies of slides on S3 during their extraction; null: the temporary folder"
    )
    cache_gib: float = Field(50.0, gt=0, description="GiB of such copies at one time; they are deleted after use")
    slide_minutes: float = Field(
        0, ge=0, description="minutes after which the extraction of a slide fails as TIMED_OUT; 0: no limit"
    )
    max_failed_tiles_share: float = Field(
        0.05, ge=0, le=1, description="share of unreadable tiles above which a slide fails"
    )
    max_failed_slides_share: float = Field(
        0.1, ge=0, le=1, description="share of failed slides above which the command exits with 3"
    )
    tissue: TissueParams = TissueParams()

    @model_validator(mode="after")
    def _an_import_is_described(self) -> Self:
        if self.source == "import" and self.import_ is None:
            hint = "write its keys format, path, encoder, mpp and patch_size; `unknown` is a value of the last three"
            refuse("import", None, hint)
        return self
