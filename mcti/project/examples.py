"""Filled settings of three common projects, for `mcti init --example`."""

from typing import Any

Example = tuple[dict[str, dict[str, Any]], dict[str, str]]
"""Settings and reasons, as `params_text.render` reads them."""

_TABLES = {"clinical": "data/raw/clinical.csv", "expression": "data/raw/expression.parquet"}
_SLIDES = {"slides": "data/raw/slides.csv"}

EXAMPLES: dict[str, Example] = {
    "tcga": (
        {
            "ingest": {
                "name": "tcga-luad", "format": "gdc", "clinical": "data/raw/clinical.cart.json",
                "expression": "data/raw/gdc", **_SLIDES, "endpoint": "OS", "expression_scale": "log2",
            },
            "extract": {"encoder": "hed44", "resolution": 0.5, "tile": 256},
            "split": {"scheme": "site", "folds": 5},
            "train": {"preset": "compact", "architecture": {"covariates": ["age", "is_female"]}},
            "register": {"name": "tcga-luad", "experiment": "tcga-luad"},
        },
        {
            "ingest.clinical": "the clinical data of a GDC cart, downloaded as JSON",
            "ingest.expression": "the folder of the sample sheet and the STAR counts of the cart",
            "ingest.slides": "columns patient_id, slide_id, path",
            "split.scheme": "sites of TCGA differ in stains and patients: folds never divide a site",
        },
    ),
    "clam": (
        {
            "ingest": {
                "name": "hospital-os", **_TABLES, **_SLIDES, "time_unit": "days", "endpoint": "OS",
                "expression_scale": "log2", "columns": {"subtype": "histology"},
                "event_values": {"dead": 1, "alive": 0},
            },
            "extract": {
                "source": "import",
                "import": {"format": "clam", "path": "data/clam", "encoder": "uni_v2", "mpp": 0.5, "patch_size": 256},
            },
            "train": {"preset": "compact", "architecture": {"covariates": ["age", "is_female"]}},
            "register": {"name": "hospital-os", "experiment": "hospital-os"},
        },
        {
            "ingest.slides": "columns patient_id and slide_id",
            "ingest.columns": "the clinical table calls the subtype histology",
            "ingest.event_values": "the words of the column event",
            "extract.import": "the folder with h5_files and pt_files that CLAM wrote",
        },
    ),
    "stamp": (
        {
            "ingest": {
                "name": "hospital-pfi", **_TABLES, **_SLIDES, "time_unit": "months", "endpoint": "PFI",
                "expression_scale": "tpm",
            },
            "extract": {
                "source": "import",
                "import": {"format": "stamp", "path": "data/stamp/virchow2", "encoder": "virchow2", "mpp": "unknown",
                           "patch_size": "unknown"},
            },
            "train": {"preset": "compact", "architecture": {"covariates": ["age", "is_female"]}},
            "register": {"name": "hospital-pfi", "experiment": "hospital-pfi"},
        },
        {
            "ingest.slides": "columns patient_id, slide_id and mpp: tiles of STAMP are stored in micrometres",
            "extract.import": "one HDF5 file per slide; mpp and patch_size are those that the files state",
        },
    ),
}  # fmt: skip
"""Name of the example -> its settings and reasons."""
