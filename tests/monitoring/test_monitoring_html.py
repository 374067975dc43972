"""The report of a monitoring run: the line of a trend."""

import re

from mcti.monitoring.monitoring_html import Trend, trend_svg


def test_a_trend_is_drawn_from_zero_to_its_maximum_with_its_limit():
    svg = trend_svg(Trend("C", ["a", "b", "c"], [0.0, None, 2.0], limit=1.0))
    points = [tuple(map(float, point.split(","))) for point in re.search('points="([^"]+)"', svg)[1].split()]
    assert points == [(6.0, 66.0), (254.0, 6.0)]  # the run without a value is left out; 72 px high, 6 px margin
    assert 'class="limit" x1="6.0" x2="254.0" y1="36.0" y2="36.0"' in svg


def test_a_trend_of_zeros_has_a_scale():
    assert 'points="6.0,66.0"' in trend_svg(Trend("C", ["a"], [0.0]))
