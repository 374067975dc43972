"""The report in a browser without network: light and dark, wide, narrow and printed."""

import shutil

import numpy as np
import pytest

from mcti.contracts import drift, measurements, report, suites
from tests.contracts import factories
from tests.contracts.test_expectations import COHORT_RULES
from tests.polling import LIMIT_MS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LONG = "Breast Invasive Ductal Carcinoma with a long name " * 3


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report with failures, long names, drift and excluded patients."""
    data = factories.good()
    data.patients["subtype"] = np.where(data.patients["subtype"] == "ER+", LONG, "<b>ER-</b>")
    data.patients.loc[3:20, "age"] = 400.0
    tables = measurements.measure(data)
    profile = drift.profile(data.patients, tables["genes"], {"patients": 160.0}, "0" * 32)
    before = drift.profile(factories.good(5).patients, tables["genes"], {"patients": 150.0, "widths": 1.0}, "9" * 32)
    results = report.Results(
        name="made",
        notice="painted slides: not a clinical result",
        endpoint="OS",
        expression_scale="log2",
        md5="0" * 32,
        sources={"clinical": "1" * 32},
        passed=False,
        numbers={"patients": 160.0, "events": 54.0},
        expectations=tuple(suites.run(tables, COHORT_RULES)),
        warnings=("a warning",),
        clinical_patients=191,
        attrition={
            "no follow-up": tuple(f"Q-{i:04d}" for i in range(30)),
            "a reason of more than thirty letters": ("R",),
        },
        excluded_rows={"duplicate sample": ("Q-0099-02",)},
        drift=drift.compare(data.patients, profile, before),
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report.html(results, tables), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_no_text_is_cut_off_in_a_browser(page):
    from playwright.sync_api import sync_playwright

    beyond = """() => [document.documentElement.scrollWidth > innerWidth,
        [...document.querySelectorAll('svg')].flatMap(s => { const r = s.getBoundingClientRect();
          return [...s.querySelectorAll('text')].filter(t => { const q = t.getBoundingClientRect();
            return q.left < r.left - 1 || q.right > r.right + 1 || q.bottom > r.bottom + 1 })
            .map(t => t.textContent) })]"""
    broken = """() => [...document.querySelectorAll('th, td.short')].filter(e => e.offsetParent).filter(e => {
        const r = document.createRange(); r.selectNodeContents(e);
        return r.getBoundingClientRect().height > 1.5 * parseFloat(getComputedStyle(e).lineHeight) })
        .map(e => e.textContent)"""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=LIMIT_MS)
        for scheme in ("light", "dark"):
            for width in (1280, 390):
                context = browser.new_context(
                    viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
                )
                context.set_default_timeout(LIMIT_MS)
                tab, messages = context.new_page(), []
                tab.on("console", lambda message, messages=messages: messages.append(message.text))
                tab.goto(page.as_uri())
                assert tab.evaluate(beyond) == [False, []]
                assert tab.evaluate(broken) == []
                assert tab.locator("figure svg").count() == 6
                assert messages == []
        tab.emulate_media(media="print")
        tab.set_viewport_size({"width": 718, "height": 1000})  # A4 within its margins
        assert tab.evaluate(beyond) == [False, []]
        assert tab.evaluate(broken) == []
        assert tab.pdf(format="A4").startswith(b"%PDF")
        browser.close()


def test_the_report_shows_exclusions_failures_and_the_notice(page):
    text = page.read_text(encoding="utf-8")
    for part in (
        "painted slides: not a clinical result",
        "Stopped.",
        "18 of 160 rows",
        "Q-0009",
        "a warning",
        "191",
        "Q-0099-02",
    ):
        assert part in text
    assert "The population differs in: subtype." in text
    assert "not measured" in text
    assert "Q-0010" not in text  # the first ten
    assert "<b>ER-</b>" not in text
