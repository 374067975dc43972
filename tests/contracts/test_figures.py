"""Figures of the validation report."""

import re

import numpy as np

from mcti.contracts import figures


def test_figures_escape_texts_of_the_data():
    drawn = figures.bars(["<i>&"], [3.0], [1.0], '"<t>', "")
    drawn += figures.flow(("<a>", 1), [("<r>", 1)], ("<z>", 0), "t")
    assert not {"<i>", "<t>", "<a>", "<r>", "<z>"} & {drawn[i : i + 3] for i in range(len(drawn))}


def test_the_same_numbers_give_the_same_bytes_with_colours_of_the_page():
    drawings = [figures.bars(["a"], [3.0], [1.0], "Events", "") for _ in range(2)]
    assert drawings[0] == drawings[1]
    assert "var(--first)" in drawings[0]
    assert not re.search(r"#0[1-7]0203", drawings[0])
    assert "1 / 3" in drawings[0]


def test_a_name_with_dollar_signs_is_drawn_as_text():
    assert "$x$" in figures.bars(["$x$"], [1.0], None, "Names", "")


def test_a_histogram_shows_every_whole_number_up_to_twelve_bars():
    drawing = figures.histogram(np.array([1.0, 1.0, 2.0]), "Slides")
    assert re.findall(r">(\d+)<", drawing) == ["1", "2", "2", "1"]  # names, then numbers
