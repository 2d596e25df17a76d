"""Both reports in Debian's chromium: every figure is drawn, in both themes and on a phone, and nothing hostile runs."""

from itertools import pairwise

import pytest

from scripts.reporting.report import write_analysis_report, write_evaluation_report
from scripts.storage.score_records import Drift, Part
from tests.reporting.browser import PROGRAM, chromium, open_report
from tests.reporting.sample_reports import sample_analysis, sample_evaluation

pytest.importorskip("playwright", reason="the browser is driven by playwright of requirements/dev.txt")
if PROGRAM is None:
    pytest.skip("there is no chromium; install it by apt-get install chromium", allow_module_level=True)

KINDS = ("analysis", "evaluation")
ATTACKS = ("<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "</script><svg onload=alert(1)>")

# Contrast of every piece of text that is seen with what lies behind it, the least first (WCAG 2.2).
CONTRASTS = """() => {
  const channels = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = (c) => c.slice(0, 3).map((v) => linear(v / 255))
    .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
  const behind = (element) => {
    let colour = channels(getComputedStyle(element).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
    if (!element.parentElement) return [255, 255, 255];
    const under = behind(element.parentElement), share = colour[3];
    return under.slice(0, 3).map((v, k) => v * (1 - share) + colour[k] * share);
  };
  const found = [];
  const texts = "p, a, li, dt, dd, small, th button, td, h1, h2, h3, h4, figcaption, svg text";
  for (const element of document.querySelectorAll(texts)) {
    if (!element.textContent.trim() || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const text = channels(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [a, b] = [light(text), light(behind(element))].sort((x, y) => y - x);
    found.push([(a + .05) / (b + .05), element.tagName + " " + element.textContent.trim().slice(0, 40)]);
  }
  return found.sort((x, y) => x[0] - y[0]);
}"""
DRAWN = """() => [...document.querySelectorAll(".chart")].map((chart) => [
  chart.dataset.spec,
  chart.querySelectorAll("svg .role-mark path, svg .role-mark line, svg .role-mark text").length,
  chart.textContent.includes("could not be drawn"),
  chart.closest("figure").querySelector("figcaption").textContent.trim().length,
])"""
# Elements outside a region that scrolls which reach over the edge, and texts of charts that are cut off.
TOO_WIDE = """() => [...document.querySelectorAll("body *, svg text")].filter((e) => {
  const region = e.closest(".scroll"), box = e.getBoundingClientRect();
  if (e.ownerSVGElement) {
    const chart = e.closest(".chart").querySelector("svg").getBoundingClientRect();
    return e.matches("text") && box.width && (box.right > chart.right + 2 || box.left < chart.left - 2 ||
      box.bottom > chart.bottom + 2 || box.top < chart.top - 2);
  }
  return (!region || e === region) && box.right > innerWidth + 1;
}).map((e) => `${e.tagName} ${e.textContent.trim().slice(0, 40)}`)"""
COLUMN = """([table, column]) => [...document.querySelectorAll("table")[table].tBodies[0].rows]
  .map((row) => Number(row.cells[column].dataset.value))"""


@pytest.fixture(scope="module")
def reports(finished_run, tmp_path_factory):
    """Reports of a real run by their kind, and of made-up numbers as `sample_*` and `hostile_*`."""
    folder = tmp_path_factory.mktemp("reports")
    for name, texts in (("sample", ("gru", "AAPL")), ("hostile", (ATTACKS[0], ATTACKS[0]))):
        analysis, evaluation = sample_analysis(texts[0]), sample_evaluation(texts[1], n_dates=300)
        if name == "hostile":
            evaluation.evaluation.by_group.update({attack: Part(accuracy=0.5, n_rows=90) for attack in ATTACKS})
            evaluation.evaluation.drift.extend(Drift(feature=a, psi=0.3, ks=0.1, p_value=0.0) for a in ATTACKS)
            values = {k: 0.1 for k in ATTACKS}
            for k, trial in enumerate(analysis.trials.trials):
                trial.hyperparameters.update({name: value * (k + 1) for name, value in values.items()})
            analysis.importance.update(values)
        write_analysis_report(folder / f"{name}_analysis.html", analysis)
        write_evaluation_report(folder / f"{name}_evaluation.html", evaluation)
    return {kind: finished_run.folder / kind / "report.html" for kind in KINDS} | {
        path.stem: path for path in folder.glob("*.html")
    }


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as context:
        yield context


@pytest.fixture
def page(browser):
    """A page at the size of a desktop; whatever it complains of, asks for or opens is noted in `page.noted`."""
    page = browser.new_page()
    page.set_viewport_size({"width": 1100, "height": 900})
    page.noted = []
    page.on("console", lambda message: page.noted.append(message.text) if message.type != "info" else None)
    page.on("pageerror", lambda error: page.noted.append(str(error)))
    page.on("dialog", lambda dialog: (page.noted.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: None if request.url.startswith("file:") else page.noted.append(request.url))
    yield page
    page.close()


@pytest.mark.parametrize("name", [*KINDS, *(f"sample_{kind}" for kind in KINDS)])
def test_every_figure_is_drawn_and_explained_without_a_complaint(reports, page, name):
    open_report(page, reports[name])
    charts = page.evaluate(DRAWN)
    assert len(charts) >= 8
    for chart, n_marks, failed, n_explained in charts:
        assert n_marks > 0 and not failed, chart
        assert n_explained > 60, chart
    assert page.noted == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_is_readable_in_both_themes(reports, page, kind, theme):
    page.emulate_media(color_scheme=theme)
    open_report(page, reports[kind])
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert contrasts[0][0] >= 4.5, contrasts[:5]


@pytest.mark.parametrize("name", [*KINDS, *(f"hostile_{kind}" for kind in KINDS)])
def test_nothing_is_wider_than_a_phone(reports, page, name):
    page.set_viewport_size({"width": 360, "height": 740})
    open_report(page, reports[name])
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(TOO_WIDE) == []


def test_a_chart_follows_the_width_of_the_window(reports, page):
    open_report(page, reports["evaluation"])
    width = "document.querySelector('.chart svg').getBoundingClientRect().width"
    wide = page.evaluate(width)
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_function(f"{width} < {wide / 1.5}")
    assert page.evaluate(TOO_WIDE) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_sorts_by_click_and_by_keyboard_by_its_numbers(reports, page, kind):
    open_report(page, reports[f"sample_{kind}"])
    table = page.locator("table").filter(has=page.locator("tbody tr:nth-child(5)")).first
    number = page.evaluate("(t) => [...document.querySelectorAll('table')].indexOf(t)", table.element_handle())
    button = table.locator("th.number button").first
    column = button.evaluate("(b) => b.closest('th').cellIndex")
    button.click()
    values = page.evaluate(COLUMN, [number, column])
    assert len(values) >= 5 and all(a <= b for a, b in pairwise(values))
    assert button.evaluate("(b) => b.closest('th').ariaSort") == "ascending"
    button.focus()
    page.keyboard.press("Enter")
    assert page.evaluate(COLUMN, [number, column]) == sorted(values, reverse=True)
    assert button.evaluate("(b) => b.closest('th').ariaSort") == "descending"


@pytest.mark.parametrize("kind", KINDS)
def test_the_tabulator_leads_through_links_tables_and_headings_and_shows_where_it_is(reports, page, kind):
    open_report(page, reports[kind])
    wanted = page.evaluate("document.querySelectorAll('nav a, .scroll, th button').length")
    seen = []
    for _ in range(wanted):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("""() => { const e = document.activeElement, style = getComputedStyle(e);
            return [e.matches("nav a, .scroll, th button"), style.outlineStyle, e.outerHTML.slice(0, 80)]; }""")
        )
    assert all(fits and outline == "solid" for fits, outline, _ in seen), [s for s in seen if s[:2] != [True, "solid"]]


@pytest.mark.parametrize("kind", KINDS)
def test_what_data_and_features_are_called_is_shown_and_never_run(reports, page, kind):
    open_report(page, reports[f"hostile_{kind}"])
    assert page.noted == []
    assert page.locator("main img, main a[href^=javascript], figure svg script").count() == 0
    text = page.evaluate("document.body.textContent")
    assert all(attack in text for attack in (ATTACKS if kind == "evaluation" else ATTACKS[:1]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_dark_report_is_printed_in_black_on_white_with_all_its_figures(reports, page, kind):
    page.emulate_media(color_scheme="dark", media="print")
    open_report(page, reports[kind])
    colours = "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
    back, text = page.evaluate(colours)
    assert back == "rgb(255, 255, 255)" and text == "rgb(28, 33, 40)"
    assert all(n_marks > 0 for _, n_marks, _, _ in page.evaluate(DRAWN))
    page.set_viewport_size({"width": 720, "height": 1000})  # A4 between its margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF") and len(printed) > 50_000
