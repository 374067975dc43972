"""The encoder `hed44`: 44 stain and texture features per tile. No weights, no download, the same bits on every run.

Stain by colour deconvolution into haematoxylin, eosin and a residual (Ruifrok and Johnston, Anal Quant Cytol Histol
23:291-299, 2001); texture by gradients at two scales; nuclei as connected spots of haematoxylin.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mcti.slides.decoding import Pixels
from mcti.slides.encoder_protocol import EncoderIdentity, Features

WIDTH = 44
_STEP = 85.0  # grey levels per unit of optical density (base e) of a stain plane; 3 units fill the byte
_QUANTILES = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
_THRESHOLDS = (60, 100, 140)  # haematoxylin of a faint, a plain and a dense nucleus


class Hed44Encoder:
    """The encoder for `extract.encoder=hed44`."""

    identity = EncoderIdentity("hed44", "", "hed44-1")
    width = WIDTH

    def encode(self, tiles: Sequence[Pixels]) -> Features:
        """See Encoder."""
        return np.stack([encode(tile) for tile in tiles])


def encode(picture: Pixels) -> NDArray[np.float32]:
    """Features (44,) float32 of one RGB tile (h, w, 3): 21 of the stains, 11 of texture, 6 of nuclei, 6 of colour."""
    stains = _unmix(picture)
    numbers = [value for plane in stains for value in _histogram(plane)]
    numbers += _texture(stains[0]) + _texture(stains[1]) + [_laplacian(plane) for plane in stains]
    numbers += _nuclei(stains[0])
    numbers += _colour(picture)
    return np.asarray(numbers, np.float32)


@cache
def _tables() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Optical density of each grey level (1, 256), and the matrix from RGB density to stains (3, 3)."""
    density = -np.log((np.arange(256) + 1.0) / 256.0)
    dyes = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
    dyes /= np.linalg.norm(dyes, axis=1, keepdims=True)
    return density[None].astype(np.float32), (np.linalg.inv(dyes).T * _STEP).astype(np.float32)


def _unmix(picture: Pixels) -> list[Pixels]:
    """Haematoxylin, eosin and residual, (h, w) uint8 each."""
    import cv2

    density, matrix = _tables()
    optical = cv2.LUT(picture, density)
    # One plane at a time: slices of an interleaved picture cost ten times as much. CV_8U cuts below zero.
    planes = [cv2.transform(optical, matrix[i : i + 1]) for i in range(3)]
    return [np.asarray(cv2.addWeighted(plane, 1.0, plane, 0.0, 0.0, dtype=cv2.CV_8U), np.uint8) for plane in planes]


def _histogram(plane: Pixels) -> list[float]:
    """Mean, spread and five quantiles."""
    import cv2

    counts = cv2.calcHist([plane], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    levels = np.arange(256.0)
    mean = float(counts @ levels / counts.sum())
    spread = float(np.sqrt(max(counts @ levels**2 / counts.sum() - mean**2, 0.0)))
    quantiles = np.searchsorted(np.cumsum(counts), _QUANTILES * counts.sum())
    return [v / _STEP for v in (mean, spread, *quantiles.tolist())]


def _texture(plane: Pixels) -> list[float]:
    """Mean and spread of the gradient at full and at quarter size."""
    import cv2

    numbers = []
    for size in (1, 4):
        scaled = plane if size == 1 else cv2.resize(plane, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        across, down = cv2.Sobel(scaled, cv2.CV_16S, 1, 0), cv2.Sobel(scaled, cv2.CV_16S, 0, 1)
        across, down = (cv2.convertScaleAbs(gradient, alpha=0.25) for gradient in (across, down))
        strength = cv2.addWeighted(across, 0.5, down, 0.5, 0)
        mean, deviation = cv2.meanStdDev(strength)
        numbers += [float(mean[0, 0]) / _STEP, float(deviation[0, 0]) / _STEP]
    return numbers


def _laplacian(plane: Pixels) -> float:
    import cv2

    return float(cv2.meanStdDev(cv2.Laplacian(plane, cv2.CV_16S))[1][0, 0]) / _STEP


def _nuclei(haematoxylin: Pixels) -> list[float]:
    """Three area shares; of the spots at half size: how many (per 1,000 px), mean and spread of their diameters."""
    import cv2

    above = [cv2.countNonZero(cv2.compare(haematoxylin, float(t), cv2.CMP_GT)) for t in _THRESHOLDS]
    shares = [count / haematoxylin.size for count in above]
    half = cv2.resize(haematoxylin, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    spots = cv2.compare(half, float(_THRESHOLDS[1]), cv2.CMP_GT)
    _, _, stats, _ = cv2.connectedComponentsWithStats(spots, connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
    diameters = np.sqrt(areas[areas >= 8]) / 10.0
    if not len(diameters):
        return [*shares, 0.0, 0.0, 0.0]
    return [*shares, 1000.0 * len(diameters) / half.size, float(diameters.mean()), float(diameters.std())]


def _colour(picture: Pixels) -> list[float]:
    """Mean and spread of red, green and blue, as shares of the full scale."""
    import cv2

    mean, deviation = cv2.meanStdDev(picture)
    return [float(v) / 255.0 for v in (*mean.ravel(), *deviation.ravel())]
