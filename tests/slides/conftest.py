"""Pictures and files for the tests of the slides."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from mcti.demo import painting
from mcti.slides import extraction
from mcti.slides.extraction import ExtractionContext
from mcti.slides.feature_store import FeatureStore

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "slides"


def real(name: str) -> Path:
    path = REAL / name
    if not path.exists():
        pytest.skip(f"real slides are not on this machine ({path})")
    return path


@pytest.fixture(scope="session")
def cmu() -> Path:
    return real("CMU-1-Small-Region.svs")


@pytest.fixture(scope="session")
def tcga() -> Path:
    return real("TCGA-CR-7395-01A-01-TS1.svs")


@pytest.fixture(scope="session")
def painted_once(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("slides") / "P1.tif"
    painting.paint(out, seed=0, grade=2, er_positive=True)
    return out


@pytest.fixture
def painted(painted_once, tmp_path) -> Path:
    """A copy of the painted slide that a test may damage."""
    return Path(shutil.copy(painted_once, tmp_path / "P1.tif"))


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth coloured picture, so that lossy codecs stay close."""
    coarse = np.random.default_rng(seed).integers(60, 230, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def write_tiff(path: Path, picture: np.ndarray, **options) -> Path:
    """A tiled TIFF with mpp 0.5 in its resolution tags."""
    settings = {"tile": (64, 64), "photometric": "rgb", "resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, picture, **{**settings, "metadata": None, **options})
    return path


def extract_one(row, params, encoder, out, threads=1):
    """The row of slides.csv of one slide, whose features are written below `out`."""
    return extraction.extract_slide(row, ExtractionContext(params, encoder, FeatureStore(out), threads=threads))
