import base64
import copy
import hashlib
import html.parser
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from scripts.config.search_space import Choices, FloatRange
from scripts.reporting.analysis_page import analysis_page
from scripts.reporting.evaluation_page import evaluation_page
from scripts.reporting.figures import write_svg
from scripts.reporting.page import render
from scripts.reporting.report import (
    write_analysis_report,
    write_evaluation_report,
)
from scripts.storage.evaluation_record import Opened, ReferenceRows
from tests.reporting.sample_reports import sample_analysis, sample_evaluation

HOSTILE = [  # what ends an element, an attribute, a script or a comment, and what a template would evaluate
    "<script>alert(1)</script>",
    "</script><b>x",
    '" onmouseover="alert(1)',
    "'><img src=x>",
    "<!--<script>",
    "{{7*7}}",
]


class Structure(html.parser.HTMLParser):
    """Tags with the names of their attributes, and the text of each script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.attributes = [], [], []
        self._script = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._script = dict(attrs).get("type") if tag == "script" else None

    def handle_endtag(self, tag):
        self.tags.append(("/" + tag, ()))
        self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts.append((self._script, data))


PAGES = {
    "analysis": lambda: analysis_page(sample_analysis(shrink=1)),
    "evaluation": lambda: evaluation_page(sample_evaluation()),
}


@pytest.fixture(scope="module", params=sorted(PAGES))
def rendered(request):
    return render(PAGES[request.param]())


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_ticker_leaves_the_structure_of_the_evaluation_as_it_is(text):
    expected, found = (Structure(render(evaluation_page(sample_evaluation(t, n_dates=30)))) for t in ("AAPL", text))
    assert found.tags == expected.tags
    assert len(found.scripts) == len(expected.scripts)


@pytest.mark.parametrize("text", HOSTILE[:2] + HOSTILE[4:5])
def test_a_hostile_family_or_warning_leaves_the_structure_of_the_analysis_as_it_is(text):
    pages = (analysis_page(sample_analysis(*arguments)) for arguments in (("gru", "plain"), (text, text)))
    expected, found = (Structure(render(page)) for page in pages)
    assert found.tags == expected.tags


def test_hostile_text_is_still_shown_as_text():
    text = render(evaluation_page(sample_evaluation(HOSTILE[0], n_dates=30)))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert HOSTILE[0] not in text


def test_the_policy_lets_run_exactly_the_scripts_of_the_page(rendered):
    structure = Structure(rendered)
    policy = next(v for t, n, v in structure.attributes if t == "meta" and n == "content" and "script-src" in v)
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    running = [text for kind, text in structure.scripts if kind == "module"]
    assert {base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in running} == allowed
    assert "default-src 'none'" in policy and "eval" not in policy


def test_the_page_is_one_file_without_addresses_to_load_from(rendered):
    assert len(rendered.encode()) < 3_000_000
    loading = [
        (t, n, v) for t, n, v in Structure(rendered).attributes if n in ("src", "href", "srcset", "data", "action")
    ]
    assert all(value.startswith("#") for _, _, value in loading)
    assert "@import" not in rendered and "url(" not in rendered.split("</style>")[0]


def test_every_chart_has_valid_data_a_description_and_a_place(rendered):
    structure = Structure(rendered)
    specs = [json.loads(text) for kind, text in structure.scripts if kind == "application/json"]
    places = [v for t, n, v in structure.attributes if t == "div" and n == "data-spec"]
    names = [v for t, n, v in structure.attributes if t == "script" and n == "id"]
    assert specs and places == names and len(set(names)) == len(names)
    assert all(spec["description"] and spec["width"] == "container" for spec in specs)
    assert "url" not in {key for spec in specs for key in spec.get("data", {})}


def test_every_figure_says_how_to_read_it():
    for page in (PAGES[name]() for name in PAGES):
        assert page.figures
        assert all(len(figure.reading) > 60 for figure in page.figures)


QUESTIONS = {
    "analysis": [
        "Comparison", "Cost", "Configuration", "Multiple-testing", "Learning curves", "Rungs and promotions",
        "importance", "Phase 1 against phase 2", "Folds over time", "Warnings",
    ],
    "evaluation": [
        "linear model and boosted trees", "Cost", "Configuration", "Learning curves", "Equity and drawdown",
        "Selective prediction", "Calibration", "Confusion", "By ticker", "By year", "By volatility", "drift",
        "Warnings",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(QUESTIONS))
def test_the_questions_are_answered_in_their_order(kind):
    content = sample_analysis() if kind == "analysis" else sample_evaluation()
    if kind == "analysis":
        content = replace(content, credibility=["little of it is luck"])
    page = analysis_page(content) if kind == "analysis" else evaluation_page(content)
    titles = [section.title for section in page.sections]
    assert len(titles) == len(QUESTIONS[kind])
    assert all(part in title for part, title in zip(QUESTIONS[kind], titles, strict=True)), titles


def test_every_axis_with_a_scale_has_a_title_or_names():
    for page in (PAGES[name]() for name in PAGES):
        for figure in page.figures:
            for panel in figure.panels:
                layers = panel.spec.get("layer", [panel.spec])
                for channel in ("x", "y"):
                    titled = [layer["encoding"][channel] for layer in layers if channel in layer.get("encoding", {})]
                    named = any(c.get("title") or c.get("type") in ("nominal", "ordinal") for c in titled)
                    assert named or figure.name == "parallel", (figure.name, panel.heading, channel)


def test_an_opponent_is_only_called_beaten_where_the_interval_says_so():
    table = evaluation_page(sample_evaluation()).sections[0].tables[0]
    answers = {row.cells[0].text: row.cells[3].text for row in table.rows}
    assert answers == {
        "best naive rule (best constant)": "yes",
        "logistic regression": "yes",
        "gradient boosting": "inconclusive",
    }


def test_a_chosen_value_on_the_edge_of_its_range_is_told():
    content = sample_analysis()
    config = content.extended.chosen.config
    space = {"learning_rate": FloatRange(low=config["learning_rate"], high=0.5, log=True),
             "dropout": FloatRange(low=-1.0, high=2.0),
             "width": Choices(choices=(1, config["width"], 2000))}  # fmt: skip
    experiment = content.best.experiment.model_copy(update={"search_space": space})
    content = replace(content, best=content.best.model_copy(update={"experiment": experiment}))
    figure = next(figure for figure in analysis_page(content).figures if figure.name == "slices")
    told = [panel.heading for panel in figure.panels if "edge" in panel.heading]
    assert told == ["learning_rate: the chosen value is on the lower edge"]


def test_time_and_share_of_the_yardstick_are_told_by_phase():
    page = evaluation_page(sample_evaluation())
    table = next(section for section in page.sections if section.title == "Cost").tables[0]
    assert [row.cells[1].value for row in table.rows] == [500, 1500, 210, 2210]
    assert table.rows[-1].cells[-1].text == "22 min"
    assert table.rows[-1].cells[2].text == "74%"


def test_the_analysis_holds_accuracy_against_the_baseline_and_its_uncertainty():
    page = analysis_page(sample_analysis())
    assert all(
        part in page.verdict
        for part in ("standard error", "53.2%", "best naive rule (persistence) by +1.7 pp (+0.5 to +2.9)")
    )
    assert any("3,000" in number.remark for number in page.numbers)


def test_the_epochs_of_both_phases_are_added():
    content = sample_analysis()
    spent = content.trials.epochs_spent + content.extended.epochs_spent
    assert any(number.value == f"{spent:,}" for number in analysis_page(content).numbers)


@pytest.mark.parametrize(("lowest", "tone"), [(0.001, "good"), (-0.001, "bad")])
def test_a_lead_whose_interval_reaches_zero_is_no_good_news(lowest, tone):
    page = analysis_page(analysed(0, skill_ci95=[lowest, 0.1]))
    assert page.tone == tone and ("not a significant lead" in page.verdict) == (tone == "bad")


def test_a_failed_trial_is_listed_and_never_drawn():
    page = analysis_page(sample_analysis())
    assert "diverged in epoch 4" in render(page)
    search = next(figure for figure in page.figures if figure.name == "search")
    drawn = {int(number) for number in re.findall(r'"trial": (\d+)', json.dumps(search.panels[0].spec))}
    assert drawn == set(range(15)) - {3}


def test_the_evaluation_names_interval_naive_rule_and_ceiling_in_its_verdict():
    verdict = evaluation_page(sample_evaluation()).verdict
    for part in ("53.4%", "52.7 to 54.1%", "51.4%", "best constant", "+2.0 pp", "56.1%"):
        assert part in verdict


@pytest.mark.parametrize(
    ("openings", "expected"),
    [(0, "not been opened"), (1, "opened once"), (2, "opened 2 times")],
)
def test_each_opening_of_the_sealed_set_is_told(openings, expected):
    content = evaluated(test_openings=openings, opened_in_words=f"{openings} times")
    assert expected in render(evaluation_page(content))


def test_other_data_are_not_called_sealed():
    page = evaluation_page(evaluated(opened=Opened(model_sha256="", data="other.csv")))
    assert "other data" in page.title and "other rows" in page.verdict and "sealed" not in page.verdict


def test_warnings_stand_before_the_first_number():
    text = render(analysis_page(sample_analysis()))
    assert 0 < text.index("close_next") < text.index('class="numbers"')


def test_numbers_sort_by_value_and_gaps_have_none():
    table = analysis_page(analysed(1, avg_simulated_return=None)).sections[2].tables[0]
    column = [c.name for c in table.columns].index("return")
    assert [row.cells[column].value for row in table.rows][:2] == [0.04, None]


def evaluated(**changed):
    """Report on an evaluation with changed fields."""
    content = sample_evaluation(n_dates=30)
    return replace(content, evaluation=content.evaluation.model_copy(update=changed))


def analysed(place, **changed):
    """Report on phases 1 and 2 with changed fields of a configuration."""
    content = sample_analysis()
    configurations = list(content.extended.configurations)
    configurations[place] = configurations[place].model_copy(update=changed)
    return replace(content, extended=content.extended.model_copy(update={"configurations": configurations}))


def paths_of(value, prefix=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*prefix, key)
            yield from paths_of(inner, (*prefix, key))
    elif isinstance(value, list) and value:
        for k in {0, len(value) - 1}:
            yield from paths_of(value[k], (*prefix, k))


def value_at(value, path):
    for key in path:
        value = value[key]
    return value


def changed(value, path, change):
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if change == "missing":
        del inner[path[-1]]
    else:
        inner[path[-1]] = None if change == "none" else float("nan")
    return value


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_missing_empty_or_undefined_field_breaks_a_page(data):
    kind = data.draw(st.sampled_from(["trials", "extended", "best", "evaluation"]))
    content = sample_evaluation(n_dates=30) if kind == "evaluation" else sample_analysis()
    record = getattr(content, kind)
    artifact = record.body()
    path = data.draw(st.sampled_from(sorted(paths_of(artifact), key=str)))
    numeric = isinstance(value_at(artifact, path), int | float)
    change = data.draw(st.sampled_from(["missing", "none", "nan"] if numeric else ["missing", "none"]))
    artifact = changed(artifact, path, change)
    try:
        content = replace(content, **{kind: type(record).model_validate(artifact)})
    except ValidationError:  # as the file would be refused
        return
    page = evaluation_page(content) if kind == "evaluation" else analysis_page(content)
    assert "nan" not in page.verdict.lower()
    json.dumps([panel.spec for figure in page.figures for panel in figure.panels], allow_nan=False)


def test_reference_models_that_memory_had_no_room_for_say_what_they_learned_from():
    for fitted, told in ((1_000_000, True), (8_000_000, False)):
        page = render(evaluation_page(evaluated(reference_rows=ReferenceRows(fitted=fitted, of=8_000_000))))
        assert ("They learned from 1,000,000 of 8,000,000 rows" in page) is told


def test_reports_and_figures_are_written_as_files(tmp_path):
    write_analysis_report(tmp_path / "analysis" / "report.html", sample_analysis())
    write_evaluation_report(tmp_path / "evaluation" / "report.html", sample_evaluation())
    for folder in ("analysis", "evaluation"):
        text = (tmp_path / folder / "report.html").read_text(encoding="utf-8")
        assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    written = write_svg(tmp_path / "analysis", analysis_page(sample_analysis(HOSTILE[0])).figures)
    assert {p.name for p in written} >= {"search.svg", "importance.svg", "ranks.svg", "slices-1.svg"}
    for path in written:
        root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert not [e for e in root.iter() if e.tag.endswith("script")]


def test_the_same_content_gives_the_same_bytes(tmp_path):
    paths = [tmp_path / name for name in ("a.html", "b.html")]
    for path in paths:
        write_evaluation_report(path, sample_evaluation())
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_thousands_of_trials_and_dates_stay_under_three_megabytes():
    content = sample_analysis(shrink=1)
    trials = content.trials.trials
    many = [trials[k % 60].model_copy(update={"number": k}) for k in range(5000)]
    content = replace(content, trials=content.trials.model_copy(update={"trials": many}))
    assert len(render(analysis_page(content)).encode()) < 3_000_000
    assert len(render(evaluation_page(sample_evaluation(n_dates=20_000))).encode()) < 3_000_000


def test_the_risk_of_other_books_stands_beside_the_model_and_what_is_not_modelled_is_listed():
    section = next(s for s in evaluation_page(sample_evaluation()).sections if "drawdown after costs" in s.title)
    table = next(t for t in section.tables if "other strategies" in t.caption)
    rows = {row.cells[0].text: [cell.value for cell in row.cells[1:]] for row in table.rows}
    assert rows["buy and hold"] == [0.31, 0.19, 0.55, 0.5, 0.27, 0.01]
    assert rows["model"][2] == 0.71
    assert rows["equal weights, rebalanced"][2] is None
    assert any("market impact" in note and "survivorship" in note for note in section.paragraphs)
