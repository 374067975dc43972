"""Names of the entries of a set matched to a table of slides and patients.

A name may have the suffix of the slide or of the feature file; a slide of TCGA may be named with or without its UUID;
an entry of patient level is named by the patient.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mcti.errors import DataError
from mcti.slides.manifest import SUFFIXES, ListedSlide

_FILE_SUFFIXES = (*SUFFIXES, ".czi", ".h5", ".hdf5", ".pt", ".pth", ".npy", ".npz")
_TCGA_SLIDE = re.compile(r"(TCGA-\w{2}-\w{4}-\w{3}-\w{2}-\w{3})(\.[0-9A-Fa-f-]{8,})?")
_TCGA_PATIENT = re.compile(r"(TCGA-\w{2}-\w{4})(?:-.*)?")


@dataclass(frozen=True)
class Identity:
    """An entry in the feature store: its name there, its patient, whether it stands for the patient, and its mpp."""

    name: str
    patient_id: str
    of_patient: bool = False
    mpp: float | None = None


@dataclass(frozen=True)
class Matches:
    """by_name: identity of each entry that the table lists;  unlisted: the other entries;  without_features: slides of
    the table without an entry, of patients without one.
    """

    by_name: Mapping[str, Identity]
    unlisted: tuple[str, ...] = ()
    without_features: tuple[ListedSlide, ...] = field(default=())


def strip_suffix(name: str) -> str:
    """The name without folders and without the suffix of a slide or feature file."""
    name = re.split(r"[/\\]", name)[-1]
    lower = name.lower()
    return next((name[: -len(s)] for s in _FILE_SUFFIXES if lower.endswith(s) and len(name) > len(s)), name)


def identify(names: Iterable[str], patients: Mapping[str, str]) -> Matches:
    """Identities without a table: the name without its suffix; the patient is stated by the set, is that of a TCGA
    barcode, or has the same name.

    patients  patient_id by name, as the set states it
    Raises DataError when two entries have one name.
    """
    identities = {}
    for name in names:
        slide = strip_suffix(name)
        barcode = _TCGA_PATIENT.fullmatch(slide)
        patient = patients.get(name) or (barcode.group(1) if barcode else slide)
        identities[name] = Identity(slide, patient)
    _check_unique(identities)
    return Matches(identities)


def match(names: Iterable[str], listed: Mapping[str, ListedSlide]) -> Matches:
    """Identities by a table of slides.

    Raises DataError when two entries are of one slide or patient.
    """
    barcodes: dict[str, list[ListedSlide]] = {}
    for slide in listed.values():
        if barcode := _TCGA_SLIDE.fullmatch(slide.slide_id):
            barcodes.setdefault(barcode.group(1), []).append(slide)
    patients = {slide.patient_id for slide in listed.values()}
    identities, unlisted = {}, []
    for name in names:
        identity = _identity(strip_suffix(name), listed, barcodes, patients)
        if identity is None:
            unlisted.append(name)
        else:
            identities[name] = identity
    _check_unique(identities)
    slides = {identity.name for identity in identities.values() if not identity.of_patient}
    complete = {identity.patient_id for identity in identities.values() if identity.of_patient}
    rest = (s for s in listed.values() if s.slide_id not in slides and s.patient_id not in complete)
    return Matches(identities, tuple(sorted(unlisted)), tuple(sorted(rest, key=lambda s: s.slide_id)))


def _identity(
    name: str, listed: Mapping[str, ListedSlide], barcodes: Mapping[str, list[ListedSlide]], patients: set[str]
) -> Identity | None:
    slide = listed.get(name)
    if slide is None and (barcode := _TCGA_SLIDE.fullmatch(name)):
        candidates = barcodes.get(barcode.group(1), [])
        one_uuid = len(candidates) == 1 and (barcode.group(2) is None or "." not in candidates[0].slide_id)
        slide = candidates[0] if one_uuid else None
    if slide is not None:
        return Identity(slide.slide_id, slide.patient_id, mpp=slide.mpp)
    return Identity(name, name, of_patient=True) if name in patients else None


def _check_unique(identities: Mapping[str, Identity]) -> None:
    """Each identity has one entry, and its name can be that of a file."""
    by_identity: dict[str, list[str]] = {}
    for name, identity in identities.items():
        if not identity.name.strip(".") or identity.name.startswith(".") or set(identity.name) & {"/", "\\", "\0"}:
            raise DataError(
                f"{identity.name!r} is no valid file name", name, "leave slashes and leading dots out of it"
            )
        by_identity.setdefault(identity.name, []).append(name)
    for identity_name, same in sorted(by_identity.items()):
        if len(same) > 1:
            raise DataError(f"{len(same)} sets of features of {identity_name}", ", ".join(sorted(same)), "keep one")
