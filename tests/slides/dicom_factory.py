"""DICOM whole slide images for the tests, written with pydicom: one instance per level, label and thumbnail."""

from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
TILE = 256


def write_levels(folder: Path, pictures: list[np.ndarray], *, mpp: float = 0.5, seed: str = "1") -> list[Path]:
    """A series of these levels, uncompressed, so that their pixels stay."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for i, picture in enumerate(pictures):
        image_type = (
            ("ORIGINAL", "PRIMARY", "VOLUME", "NONE") if not i else ("DERIVED", "PRIMARY", "VOLUME", "RESAMPLED")
        )
        scale = pictures[0].shape[1] / picture.shape[1]
        extent = pictures[0].shape[1] * mpp
        path = folder / f"level{i}.dcm"
        written.append(write_instance(path, picture, image_type, mpp * scale, seed, extent=extent, lossless=True))
    return written


def write_slide(folder: Path, picture: np.ndarray, *, mpp: float = 0.5, levels: int = 3, seed: str = "1", **changes):
    """A series in `folder`: level0.dcm and so on, each half as large, thumbnail.dcm, label.dcm, overview.dcm."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    level = picture
    for i in range(levels):
        image_type = (
            ("ORIGINAL", "PRIMARY", "VOLUME", "NONE") if not i else ("DERIVED", "PRIMARY", "VOLUME", "RESAMPLED")
        )
        written.append(folder / f"level{i}.dcm")
        write_instance(written[-1], level, image_type, mpp * 2**i, seed, extent=picture.shape[1] * mpp, **changes)
        level = cv2.resize(level, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA)
    small = cv2.resize(picture, (200, 150), interpolation=cv2.INTER_AREA)
    for flavour in ("THUMBNAIL", "LABEL", "OVERVIEW"):
        image_type = ("ORIGINAL", "PRIMARY", flavour, "RESAMPLED" if flavour == "THUMBNAIL" else "NONE")
        written.append(folder / f"{flavour.lower()}.dcm")
        write_instance(written[-1], small, image_type, mpp * 10, seed, extent=100.0)
    return written


def write_instance(
    path: Path,
    picture: np.ndarray,
    image_type,
    mpp: float,
    seed: str,
    *,
    extent: float,
    lossless: bool = False,
    **changes,
) -> Path:
    """One instance: JPEG frames of 256 px, TILED_FULL. `extent`: µm across the whole slide."""
    height, width = picture.shape[:2]
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = WHOLE_SLIDE, generate_uid(entropy_srcs=[seed, path.stem])
    header.SeriesInstanceUID, header.StudyInstanceUID = (generate_uid(entropy_srcs=[seed, n]) for n in ("series", "s"))
    header.FrameOfReferenceUID = generate_uid(entropy_srcs=[seed, "frame"])
    header.Modality, header.ImageType, header.PatientID = "SM", list(image_type), "SECRET^NAME"
    header.TotalPixelMatrixColumns, header.TotalPixelMatrixRows = width, height
    header.ImagedVolumeWidth, header.ImagedVolumeHeight = extent / 1000, extent / 1000 * height / width
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PlanarConfiguration = 3, "YBR_FULL_422", 0
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation = 7, 0
    header.Rows = header.Columns = TILE
    header.DimensionOrganizationType, header.NumberOfOpticalPaths, header.TotalPixelMatrixFocalPlanes = (
        "TILED_FULL",
        1,
        1,
    )
    header.LossyImageCompression, header.BurnedInAnnotation, header.InstanceNumber = "01", "NO", 1
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [mpp / 1000, mpp / 1000], 0.001
    shared.PixelMeasuresSequence = [measures]
    header.SharedFunctionalGroupsSequence = [shared]
    frames = [_frame(picture, x, y) for y in range(0, height, TILE) for x in range(0, width, TILE)]
    header.NumberOfFrames = len(frames)
    if lossless:
        header.PhotometricInterpretation = "RGB"
        header.PixelData = b"".join(frame.tobytes() for frame in frames)
    else:
        header.PixelData = encapsulate([imagecodecs.jpeg8_encode(frame, level=92) for frame in frames])
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = not lossless
    for name, value in changes.items():
        setattr(header, name, value)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if lossless else JPEGBaseline8Bit
    header.file_meta = meta
    pydicom.dcmwrite(path, header, enforce_file_format=True)
    return path


def _frame(picture: np.ndarray, x: int, y: int) -> np.ndarray:
    frame = np.full((TILE, TILE, 3), 255, np.uint8)
    part = picture[y : y + TILE, x : x + TILE]
    frame[: part.shape[0], : part.shape[1]] = part
    return frame
