"""The settings of a retraining with pinned sources; the lease is tested on real servers in tests/stack."""

import pytest

from mcti.errors import UsageError
from mcti.params import IngestParams
from mcti.steps.retraining import pinned_to

MD5 = "0" * 32 + ".dir"


def test_every_source_is_read_from_the_version():
    params = IngestParams(clinical="raw/clinical.csv", expression="raw/genes/rna.csv", slides="raw/slides.csv")
    pinned = pinned_to(params, "s3://bucket/dvc", MD5)
    assert pinned.clinical == f"dvc+s3://bucket/dvc/{MD5}/clinical.csv"
    assert pinned.expression == f"dvc+s3://bucket/dvc/{MD5}/genes/rna.csv"
    assert pinned.slides == f"dvc+s3://bucket/dvc/{MD5}/slides.csv"


def test_a_source_outside_the_folder_is_refused():
    params = IngestParams(clinical="raw/clinical.csv", expression="other/rna.csv", slides="raw/slides.csv")
    with pytest.raises(UsageError, match=r"other/rna.csv is outside raw in ingest.expression: keep all sources in raw"):
        pinned_to(params, "s3://bucket/dvc", MD5)
