import base64
import copy
import hashlib
import html.parser
import json
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.reporting.analysis_page import analysis_page
from scripts.reporting.evaluation_page import evaluation_page
from scripts.reporting.page import plain, render
from scripts.reporting.report import (
    AnalysisReport,
    EvaluationReport,
    write_analysis_report,
    write_evaluation_report,
    write_figures,
)

HOSTILE = [  # what ends an element, an attribute, a script or a comment, and what a template would evaluate
    "<script>alert(1)</script>",
    "</script><b>x",
    '" onmouseover="alert(1)',
    "'><img src=x>",
    "<!--<script>",
    "{{7*7}}",
]
STAGES = [("random", 20, 8), ("bayesian", 40, 15), ("fine_tune", 15, 25)]


def history(rng, epochs, top, frequency=1):
    for epoch in range(1, epochs + 1):
        share = 1 - math.exp(-epoch / (epochs / 4))
        seen = epoch % frequency == 0
        yield {
            "epoch": epoch,
            "train_loss": 0.70 - 0.03 * share - 0.0003 * epoch,
            "val_loss": 0.695 - 0.008 * share + 0.0001 * epoch if seen else None,
            "val_accuracy": 0.5 + (top - 0.5) * share + rng.normal(0, 0.002) if seen else None,
            "simulated_return": rng.normal(0.02, 0.02) if seen else None,
            "duration_s": 0.8,
            "examples_per_s": 1.2e5,
        }


def sample_trials(rng, family="gru", shrink=1):
    trials = []
    for stage, count, epochs in STAGES:
        for _ in range(count // shrink):
            values = {
                "family": str(rng.choice(["mlp", "resnet", family, "tcn"])),
                "learning_rate": float(10 ** rng.uniform(-3.5, -2)),
                "weight_decay": float(10 ** rng.uniform(-5, -1)),
                "width": int(rng.choice([32, 64, 128])),
                "dropout": float(rng.uniform(0, 0.5)),
                "batch_size": int(rng.choice([256, 512, 1024])),
            }
            if values["family"] in (family, "tcn"):
                values["window"] = int(rng.integers(4, 21))
            bonus = {"random": 0, "bayesian": 0.006, "fine_tune": 0.01}[stage]
            accuracy = 0.515 + bonus - 0.006 * abs(math.log10(values["learning_rate"]) + 2.8) + rng.normal(0, 0.004)
            number = len(trials)
            failed = number in (3, 31)
            spent = int(rng.integers(epochs // 2, epochs + 1))
            trials.append(
                {
                    "number": number,
                    "stage": stage,
                    "state": "failed" if failed else ("complete" if spent == epochs else "stopped"),
                    "hyperparameters": values,
                    "epochs": spent,
                    "best_epoch": spent - 1,
                    "val_accuracy": None if failed else accuracy,
                    "val_loss": None if failed else 0.69,
                    "train_loss": None if failed else 0.68,
                    "simulated_return": None if failed else 0.02,
                    "n_parameters": 20_000,
                    "duration_s": spent * 0.8,
                    "inference_us_per_row": 1.7,
                    "failure": "diverged in epoch 4" if failed else None,
                }
            )
    epochs = sum(t["epochs"] for t in trials)
    return {"seed": 1, "epochs_spent": epochs, "duration_s": epochs * 0.8, "trials": trials}


def sample_analysis(family="gru", warning="column `close_next` predicts the label with an AUC of 0.97", shrink=5):
    rng = np.random.default_rng(3)
    trials = sample_trials(rng, family, shrink)
    usable = [t for t in trials["trials"] if t["val_accuracy"] is not None]
    candidates = []
    for rank, trial in enumerate(sorted(usable, key=lambda t: -t["val_accuracy"])[:5], start=1):
        folds = [0.535 - 0.002 * rank + rng.normal(0, 0.004) for _ in range(3)]
        candidates.append(
            {
                "rank": rank,
                "trial_number": trial["number"],
                "config": trial["hyperparameters"],
                "avg_accuracy": float(np.mean(folds)),
                "std_accuracy": float(np.std(folds, ddof=1)),
                "avg_val_loss": 0.688,
                "avg_train_loss": 0.671,
                "avg_simulated_return": 0.04,
                "n_parameters": 25_000,
                "duration_s": 180.0,
                "inference_us_per_row": 2.1,
                "folds": [
                    {
                        "fold": k,
                        "epochs": 60,
                        "best_epoch": 40,
                        "accuracy": a,
                        "history": list(history(rng, 60 // shrink, a, 5)),
                    }
                    for k, a in enumerate(folds)
                ],
            }
        )
    reason = f"trial {candidates[0]['trial_number']} ({family}); no other configuration lies within one standard error"
    created = {"version": "0.1.0", "git_revision": "abc123", "libraries": {"torch": "2.13", "optuna": "5.0"}}
    return AnalysisReport(
        trials=trials,
        extended={
            "n_folds": 3,
            "epochs_spent": 900,
            "best_constant_accuracy": 0.512,
            "configurations": candidates,
            "created_by": created,
        },
        best={
            "hyperparameters": candidates[0]["config"],
            "experiment": {
                "search_space": {"learning_rate": {"log": True}, "weight_decay": {"log": True}, "family": "mlp"}
            },
            "selection": {"trial_number": candidates[0]["trial_number"], "reason": reason},
            "created_by": created,
            "config_hash": "9f" * 32,
            "data_fingerprint": "1c" * 32,
        },
        importance={"learning_rate": 0.52, "family": 0.21, "dropout": 0.12, "width": 0.1, "window": 0.05},
        warnings=[warning],
    )


def sample_evaluation(ticker="AAPL", n_dates=1500):
    rng = np.random.default_rng(5)
    market = rng.normal(3e-4, 0.01, n_dates)
    dates = np.datetime64("2018-01-02") + np.arange(n_dates)
    tickers = [ticker] + [f"T{k:02d}" for k in range(19)]
    return EvaluationReport(
        evaluation={
            "n_rows": 30_000,
            "first_date": str(dates[0]),
            "last_date": str(dates[-1]),
            "accuracy": 0.534,
            "accuracy_se": 0.0035,
            "accuracy_ci95": [0.527, 0.541],
            "naive": {"best_constant": 0.514, "majority": 0.512, "persistence": 0.497},
            "references": {"logistic_regression": {"accuracy": 0.526, "accuracy_ci95": [0.519, 0.533]}},
            "skill": 0.02,
            "skill_se": 0.004,
            "skill_ci95": [0.012, 0.028],
            "verdict": "skill",
            "ceiling": 0.561,
            "auc": 0.551,
            "log_loss": 0.6895,
            "brier": 0.2481,
            "ece": 0.011,
            "returns": {
                "gross": 0.41,
                "net": 0.22,
                "sharpe": 0.71,
                "max_drawdown": -0.12,
                "turnover": 0.34,
                "break_even_cost_bps": 9.6,
            },
            "by_group": {
                t: {"accuracy": 0.534 + float(rng.normal(0, 0.012)), "n_rows": 1500, "naive": 0.51} for t in tickers
            },
            "by_year": {
                str(y): {"accuracy": 0.534 + float(rng.normal(0, 0.008)), "n_rows": 7300} for y in range(2018, 2023)
            },
            "epochs_spent_total": 2210,
            "test_openings": 2,
            "notes": ["5 rows without a forward return were left out"],
            "created_by": {"version": "0.1.0"},
        },
        dates=[str(d) for d in dates],
        curves={
            "model after costs": np.cumprod(1 + market * 0.4 + rng.normal(2e-4, 0.004, n_dates)),
            "buy and hold": np.cumprod(1 + market),
        },
        reliability=[
            {"confidence": 0.5 + 0.03 * k, "accuracy": 0.5 + 0.026 * k, "count": 9000 // (k + 1)} for k in range(6)
        ],
        confusion=[[7200, 7300], [6700, 8800]],
        class_names=["down", "up"],
    )


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


def test_the_analysis_holds_accuracy_against_the_baseline_and_its_uncertainty():
    page = analysis_page(sample_analysis())
    assert (
        "standard error" in page.verdict and "51.2 %" in page.verdict and "always answering one class" in page.verdict
    )
    assert any("3,000" in number.remark for number in page.numbers)


def test_the_epochs_of_both_phases_are_added():
    content = sample_analysis()
    spent = content.trials["epochs_spent"] + content.extended["epochs_spent"]
    assert any(number.value == f"{spent:,}" for number in analysis_page(content).numbers)


def test_a_lead_within_two_standard_errors_is_no_good_news():
    content = sample_analysis()
    content.extended["best_constant_accuracy"] = content.extended["configurations"][0]["avg_accuracy"]
    page = analysis_page(content)
    assert page.tone == "bad" and "within two standard errors" in page.verdict


def test_a_failed_trial_is_listed_and_never_drawn():
    page = analysis_page(sample_analysis())
    assert "diverged in epoch 4" in render(page)
    search = next(figure for figure in page.figures if figure.name == "search")
    drawn = {int(number) for number in re.findall(r'"trial": (\d+)', json.dumps(search.panels[0].spec))}
    assert drawn == set(range(15)) - {3}


def test_the_evaluation_names_interval_naive_rule_and_ceiling_in_its_verdict():
    verdict = evaluation_page(sample_evaluation()).verdict
    for part in ("53.4 %", "52.7 to 54.1 %", "51.4 %", "best constant", "+2.0 points", "56.1 %"):
        assert part in verdict


@pytest.mark.parametrize(
    ("openings", "expected"),
    [(0, "not been opened"), (1, "opened once"), (2, "opened 2 times"), ([{}, {}, {}], "3 times")],
)
def test_each_opening_of_the_sealed_set_is_told(openings, expected):
    content = sample_evaluation()
    content.evaluation["test_openings"] = openings
    assert expected in render(evaluation_page(content))


def test_other_data_are_not_called_sealed():
    content = sample_evaluation(n_dates=30)
    content.evaluation["opened"] = {"data": "other.csv"}
    page = evaluation_page(content)
    assert "other data" in page.title and "other rows" in page.verdict and "sealed" not in page.verdict


def test_warnings_stand_before_the_first_number():
    text = render(analysis_page(sample_analysis()))
    assert 0 < text.index("close_next") < text.index('class="numbers"')


def test_numbers_sort_by_value_and_gaps_have_none():
    content = sample_analysis()
    content.extended["configurations"][1]["avg_simulated_return"] = None
    table = analysis_page(content).sections[2].tables[0]
    column = [c.name for c in table.columns].index("return")
    assert [row.cells[column].value for row in table.rows][:2] == [0.04, None]


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


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_missing_empty_or_undefined_field_breaks_a_page(data):
    kind = data.draw(st.sampled_from(["trials", "extended", "best", "evaluation"]))
    content = sample_evaluation(n_dates=30) if kind == "evaluation" else sample_analysis()
    artifact = plain(getattr(content, kind))
    path = data.draw(st.sampled_from(sorted(paths_of(artifact), key=str)))
    numeric = isinstance(value_at(artifact, path), int | float)
    change = data.draw(st.sampled_from(["missing", "none", "nan"] if numeric else ["missing", "none"]))
    content = type(content)(**{**vars(content), kind: changed(artifact, path, change)})
    page = evaluation_page(content) if kind == "evaluation" else analysis_page(content)
    assert "nan" not in page.verdict.lower()
    json.dumps([panel.spec for figure in page.figures for panel in figure.panels], allow_nan=False)


def test_empty_artifacts_still_make_pages():
    assert "not recorded" in render(analysis_page(AnalysisReport({}, {}, {})))
    assert "not recorded" in render(evaluation_page(EvaluationReport({})))


def test_reports_and_figures_are_written_as_files(tmp_path):
    write_analysis_report(tmp_path / "analysis" / "report.html", sample_analysis())
    write_evaluation_report(tmp_path / "evaluation" / "report.html", sample_evaluation())
    for folder in ("analysis", "evaluation"):
        text = (tmp_path / folder / "report.html").read_text(encoding="utf-8")
        assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    written = write_figures(tmp_path / "analysis", sample_analysis(HOSTILE[0]))
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
    trials = content.trials["trials"]
    content.trials["trials"] = [{**trials[k % 60], "number": k} for k in range(5000)]
    assert len(render(analysis_page(content)).encode()) < 3_000_000
    assert len(render(evaluation_page(sample_evaluation(n_dates=20_000))).encode()) < 3_000_000
