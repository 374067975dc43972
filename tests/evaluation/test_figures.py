"""Figures: the same bytes, escaped text, text alternatives."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from mcti.evaluation import calibration, figures, risk_groups
from mcti.evaluation.figures import Figure


def _drawn(tied) -> list[Figure]:
    risk = np.random.default_rng(0).normal(size=len(tied.patient))
    survival = 1 / (1 + np.exp(risk))
    return [
        figures.kaplan_meier(risk_groups.form_groups(tied, risk, 3), 90.0),
        figures.forest(
            {"mcti": (0.6, 0.5, 0.7), "a<b>": (0.5, np.nan, np.nan)}, {"mcti": [0.6, np.nan], "a<b>": [0.5]}
        ),
        figures.brier({"mcti": [0.1, 0.2], "forest": [0.1, 0.3]}, np.array([12.0, 36.0])),
        figures.calibration({36.0: calibration.calibration_groups(tied, survival, 36.0)}),
    ]


def test_drawing_twice_gives_the_same_bytes(tied):
    for first, second in zip(_drawn(tied), _drawn(tied), strict=True):
        assert first.svg == second.svg
        assert first.png == second.png
        assert first.png.startswith(b"\x89PNG")


def test_every_figure_is_valid_xml_with_unique_ids_and_no_external_address(tied):
    known_ids: set[str] = set()
    for figure in _drawn(tied):
        root = ET.fromstring(figure.inline())
        ids = {node.get("id") for node in root.iter() if node.get("id")}
        assert not ids & known_ids
        known_ids |= ids
        links = {v for node in root.iter() for k, v in node.attrib.items() if k.endswith("href")}
        assert all(link.startswith("#") for link in links)
        assert "currentColor" in figure.inline()


def test_alt_texts_contain_the_numbers(tied):
    alts = [figure.alt for figure in _drawn(tied)]
    assert "log-rank p" in alts[0]
    assert "MCTI 0.600 [0.500, 0.700]" in alts[1]
    assert "forest 0.300" in alts[2]
    assert "predicted" in alts[3]


def test_user_text_is_escaped(tied):
    assert "a&lt;b&gt;" in _drawn(tied)[1].svg


@pytest.mark.parametrize(("horizon", "last"), [(5, 5), (40, 36), (120, 120), (201, 180), (2000, 1920)])
def test_months_on_the_axis_are_round(horizon, last):
    ticks = figures.month_ticks(horizon)
    assert ticks[0] == 0
    assert ticks[-1] == last
    assert len(ticks) <= 20


@pytest.mark.parametrize(("p", "text"), [(0.0001, "< 0.001"), (0.0134, "= 0.013"), (float("nan"), "not defined")])
def test_p_is_written_in_the_format_of_journals(p, text):
    assert figures.p_text(p) == text
