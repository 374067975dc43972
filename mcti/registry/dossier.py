"""The release dossier of a version: a draft of a regulatory file from the data of the run, with marked gaps.

It answers the points of Annex IV of the EU AI Act (Regulation (EU) 2024/1689), of a change control plan and the special
controls of the FDA, of 21 CFR Part 11, IEC 62304 and ISO 14971, of TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378) and
of the model card (Mitchell et al. 2019) that a run can answer. It is a draft for the persons who sign such a file, not
a declaration of conformity.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from mcti.registry import (
    dossier_change_plan,
    dossier_lifecycle,
    dossier_regulation,
    dossier_results,
    dossier_risks,
    dossier_sections,
)
from mcti.registry.card import GAP
from mcti.registry.dossier_document import DossierSource, Section
from mcti.registry.dossier_requirements import REQUIREMENTS

_LONG_WORD = 24  # characters
_SECTIONS = (
    dossier_sections.use,
    dossier_sections.data,
    dossier_sections.methods,
    dossier_results.results,
    dossier_results.groups,
    dossier_results.calibration,
    dossier_sections.explanations,
    dossier_sections.limits,
    dossier_risks.risks,
    dossier_sections.changes,
    dossier_change_plan.change_plan,
    dossier_lifecycle.signatures,
    dossier_lifecycle.traceability,
    dossier_sections.lineage,
    dossier_sections.software,
    dossier_regulation.ai_act,
    dossier_regulation.special_controls,
)


class Answer(BaseModel):
    """A requirement of a document, the section that answers it, and the state: `answered`, `partly` or `gap`."""

    model_config = ConfigDict(frozen=True)
    document: str
    point: str
    requirement: str
    section: str
    state: str


class Dossier(BaseModel):
    """The complete dossier, as it is also written as JSON."""

    model_config = ConfigDict(frozen=True)
    name: str
    version: int
    alias: str
    notice: str
    digest: str
    sections: tuple[Section, ...]
    answers: tuple[Answer, ...]
    sbom: dict[str, Any]

    @classmethod
    def build(cls, source: DossierSource) -> Self:
        """The dossier of a version from its data in the registry."""
        sections = tuple(section(source) for section in _SECTIONS)
        return cls(
            name=source.card["name"],
            version=source.version,
            alias=source.alias,
            notice=source.card["notice"],
            digest=source.card["lineage"]["digest"],
            sections=sections,
            answers=tuple(_answers(sections)),
            sbom=dict(source.sbom),
        )


def html(dossier: Dossier, pictures: Mapping[str, bytes]) -> str:
    """The HTML page, without scripts and network access; pictures: SVG files, embedded as images without scripts."""
    from jinja2 import Environment, select_autoescape

    template = resources.files("mcti.registry").joinpath("dossier.html").read_text(encoding="utf-8")
    page = Environment(autoescape=select_autoescape(default_for_string=True, default=True)).from_string(template)
    images = {name: f"data:image/svg+xml;base64,{b64encode(body).decode()}" for name, body in pictures.items()}
    return page.render(dossier=dossier, pictures=images, gap=GAP, has_long_word=_has_long_word)


def _has_long_word(text: str) -> bool:
    """Whether the text of a cell has a word, such as a hash, that is wider than its column."""
    return any(len(word) > _LONG_WORD for word in text.split())


def _answers(sections: Sequence[Section]) -> Iterator[Answer]:
    by_key = {section.key: section for section in sections}
    for document, point, requirement, key in REQUIREMENTS:
        section = by_key.get(key)
        if section is None or not (section.paragraphs or section.tables):
            state = "gap"
        else:
            state = "partly" if section.gaps else "answered"
        yield Answer(document=document, point=point, requirement=requirement, section=key, state=state)
