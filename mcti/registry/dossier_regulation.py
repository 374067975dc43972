"""Sections of the release dossier about two regulations: dates of the EU AI Act, and FDA special controls.

Sources: Regulation (EU) 2024/1689 (OJ L, 12.7.2024), Article 113; openFDA, device classification of 21 CFR 864.3755
(product codes SFH, of the order DEN240068, and SHW). The texts of Regulation (EU) 2026/1744 and of the order DEN240068
were not available when this module was written: what depends on them is from secondary sources (for the regulation:
timelines of law firms and public repositories of July to October 2026, which agree) and is marked `to verify`.
"""

from collections.abc import Mapping
from typing import Any

from mcti.registry.card import GAP
from mcti.registry.dossier_document import DossierSource, Section, Table, cell

TO_VERIFY = "to verify"
_AMENDED = "https://eur-lex.europa.eu/eli/reg/2026/1744/oj"
_ORDER = "https://www.accessdata.fda.gov/cdrh_docs/pdf24/DEN240068.pdf"
_DATES = (
    (
        "Chapters I and II: prohibited practices, AI literacy",
        "2 February 2025",
        f"the same; new prohibitions of Article 5(1), points (ba) and (bb), 2 December 2026; {TO_VERIFY}",
    ),
    (
        "Chapter III section 4, Chapters V, VII, XII (without Article 101), Article 78",
        "2 August 2025",
        f"the same; {TO_VERIFY}",
    ),
    ("general date of application", "2 August 2026", f"the same; {TO_VERIFY}"),
    (
        "Chapter III sections 1 to 3: high-risk systems of Annex III",
        "2 August 2026",
        f"2 December 2027 (Article 1(40)(b)); {TO_VERIFY}",
    ),
    (
        "Article 6(1), Chapter III sections 1 to 3: high-risk systems in products of Annex I, such as medical devices",
        "2 August 2027",
        f"2 August 2028 (Article 1(40)(b)); {TO_VERIFY}",
    ),
    (
        "Article 111(2): high-risk systems for public authorities, on the market before these dates",
        "2 August 2030",
        f"the same; {TO_VERIFY}",
    ),
)


def ai_act(source: DossierSource) -> Section:  # noqa: ARG001  (the dates do not depend on the version)
    """The dates of the EU AI Act; those of the amendment are to verify."""
    headers = ("obligation", "Regulation (EU) 2024/1689, Article 113", "as amended by Regulation (EU) 2026/1744")
    return Section(
        key="ai_act",
        title="EU AI Act: dates of application",
        paragraphs=(
            "The second column has the dates of Articles 111 and 113 as adopted. The third column is not verified: the "
            "text of the amendment (OJ L, 2026/1744, 24.7.2026, reported as in force since 27 July 2026) was not "
            "available, so that its dates are from secondary sources.",
            "Annex IV is answered item by item in the table of requirements.",
        ),
        tables=(Table(headers=headers, rows=_DATES),),
        gaps=(
            f"dates as amended: {TO_VERIFY} in the Official Journal ({_AMENDED})",
            "whether the system is high-risk (Article 6), and under which regulation of Annex I (2017/745, 2017/746)",
            "role of the organisation (provider, deployer), notified body, registration",
        ),
    )


def special_controls(source: DossierSource) -> Section:
    """The special controls of prognostic software on whole slide images, each with the evidence of the version."""
    headers = ("special control", "evidence of this version", "state")
    return Section(
        key="special_controls",
        title="FDA special controls (21 CFR 864.3755, product code SFH, DEN240068)",
        paragraphs=(
            "Pathology software algorithm device analyzing digital images for cancer prognosis, class II. The controls "
            f"are stated in short; {TO_VERIFY} against the classification order ({_ORDER}).",
        ),
        tables=(Table(headers=headers, rows=_controls(source)),),
        gaps=(
            f"special controls of the order that are not in the table: read {_ORDER}",
            "whether the device type applies: the product codes of 21 CFR 864.3755 are for cancer of the prostate "
            "(SFH) and of the breast (SHW; openFDA, October 2026); another organ or specimen may need "
            "another classification",
        ),
    )


def _controls(source: DossierSource) -> tuple[tuple[str, str, str], ...]:
    card = source.card
    intended, outputs = card["intended_use"], cell(card["outputs"])
    outside = cell(source.evaluation.get("warnings", []))
    return (
        ("(1)(i) labelling: inputs of the device, such as slide images and scanners", _inputs(card),
         "partly: scanners are a gap" if card["inputs"]["features"] != GAP else "gap"),
        ("(1)(ii) labelling: type of specimen", GAP, "gap"),
        ("(1)(iii) labelling: outputs, and what is needed to interpret them", outputs, "partly: instructions for use"),
        ("(1)(iv) labelling: intended users, and training for safe use", intended,
         "gap" if intended == GAP else "partly: training of users is a gap"),
        ("(1)(v)(A) limiting statement: use with a complete standard of care evaluation", card["not_intended"],
         "partly: the statement of the labelling is a gap"),
        ("(1)(v)(B) limiting statement: situations in which the device may not perform as expected",
         f"warnings of the evaluation: {outside}", "partly: see Limits and risks"),
    )  # fmt: skip


def _inputs(card: Mapping[str, Any]) -> str:
    inputs = card["inputs"]
    return cell({name: inputs.get(name, GAP) for name in ("genes", "covariates", "features")})
