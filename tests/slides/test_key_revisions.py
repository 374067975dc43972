"""Keys change for slides that are read in another way than before, and for no other."""

import numpy as np
import pytest
import tifffile

from mcti.demo import painting
from mcti.params import ExtractParams
from mcti.slides import key_revisions
from mcti.slides.manifest import Row

from . import dicom_factory
from .conftest import texture, write_tiff
from .test_levels import pyramid


def revision(path, mpp=None, **options):
    return key_revisions.revision(Row("P", "S", str(path), mpp), ExtractParams(**options))


def test_slides_that_are_read_as_ever_keep_their_key(tmp_path, cmu_or_none):
    painting.paint(tmp_path / "a.tif", seed=1, grade=1, er_positive=True)
    assert revision(tmp_path / "a.tif") == ""
    assert revision(write_tiff(tmp_path / "b.tif", texture(300, 300), compression="zlib")) == ""
    import cv2

    cv2.imwrite(str(tmp_path / "c.png"), texture(300, 300))
    assert revision(tmp_path / "c.png", 0.5) == ""
    if cmu_or_none is not None:
        assert revision(cmu_or_none) == ""


@pytest.fixture
def cmu_or_none():
    from .conftest import REAL

    path = REAL / "CMU-1-Small-Region.svs"
    return path if path.exists() else None


def test_each_class_of_change_is_named(tmp_path):
    picture = texture(600, 800)
    assert revision(write_tiff(tmp_path / "z.tif", picture, compression="zstd")) == "codec-1"
    alpha = np.concatenate([picture, picture[:, :, :1]], axis=2)
    assert revision(write_tiff(tmp_path / "a.tif", alpha, extrasamples=["unassalpha"])) == "alpha-1"
    with tifffile.TiffWriter(tmp_path / "f.tif") as writer:
        writer.write(picture[::4, ::4], photometric="rgb", metadata=None)
        writer.write(picture, tile=(64, 64), photometric="rgb", resolution=(20000, 20000), resolutionunit=3)
    assert revision(tmp_path / "f.tif") == "finest-1"
    with tifffile.TiffWriter(tmp_path / "strips.tif") as writer:
        writer.write(picture[::4, ::4], photometric="rgb", metadata=None)
        writer.write(picture, photometric="rgb", metadata=None)
    assert revision(tmp_path / "strips.tif", 0.5) == "finest-1"
    assert revision(write_tiff(tmp_path / "o.tif", picture, extratags=[(274, 3, 1, 6, True)])) == "refused"
    note = "Aperio Image\r\n1600x1200 (64x64)|MPP = 0.25"
    assert revision(write_tiff(tmp_path / "s.tif", picture, description=note)) == "refused"
    assert revision(write_tiff(tmp_path / "s.tif", picture, description=note), 0.5) == ""
    dicom_factory.write_slide(tmp_path / "d", picture)
    assert revision(tmp_path / "d") == ""  # its content id is another, whatever its form


def test_a_level_that_gives_no_tiles_any_more_counts_only_where_tiles_came_from_it(tmp_path):
    path = pyramid(tmp_path / "wide.tif", 8301, 601, 2)
    assert revision(path) == ""  # tiles at 0.5 µm/px come from the finest level
    assert revision(path, resolution=1.0) == "levels-2"
    assert revision(path, resolution=0.5, reader="openslide") == "openslide-2"
