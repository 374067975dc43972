"""Figures with the same bytes on every run, and SVG that follows the colours of a page."""

from mcti.figure_canvas import INK, canvas, finish, inline_svg


def draw():
    with canvas("example") as (axes,):
        axes.plot([0, 1], [0, 1], color="#0072b2")
        axes.set_xlabel("months < 12")
        return finish("example", 'A "title"', "text", [axes])


def test_two_drawings_have_the_same_bytes():
    first, second = draw(), draw()
    assert (first.svg, first.png) == (second.svg, second.png)
    assert first.png.startswith(b"\x89PNG")


def test_an_inline_figure_takes_the_text_colour_of_the_page_and_has_prefixed_ids():
    figure = draw()
    assert INK in figure.svg
    inline = figure.inline()
    assert inline.startswith('<svg role="img" aria-label="A &quot;title&quot;" ')
    assert INK not in inline
    assert "currentColor" in inline
    assert 'id="example-figure_1"' in inline
    assert "months &lt; 12" in inline


def test_other_colours_are_replaced_by_those_of_the_page():
    assert "var(--line)" in inline_svg(draw().svg, "a", "title", {"#0072b2": "var(--line)"})
