"""A registered model from which training on another cohort starts; no patient data belong to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcti.model.reference_profile import ReferenceProfile
from mcti.model.trained import TrainedModel


@dataclass(frozen=True)
class Prior:
    """The models of a registered version with the reference profiles of their training patients.

    name, version, digest  of the registered version; the digest is the SHA-256 of all its files
    members    the trained models by name: the folds, or the one model on all patients
    profiles   reference profile of each member, by its name
    patients   SHA-256 of the id of each patient that a member, or a source or prior of it, was trained on
    cohort     name, endpoint and expression scale of the development cohort, where recorded
    features   how the development features were extracted: encoder, SHA-256 of its weights, where recorded
    slides     whether its weights on slides apply: the target has features of the same encoder
    """

    name: str
    version: str
    digest: str
    members: Mapping[str, TrainedModel]
    profiles: Mapping[str, ReferenceProfile]
    patients: frozenset[str] = frozenset()
    cohort: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)
    slides: bool = True
