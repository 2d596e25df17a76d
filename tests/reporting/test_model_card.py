"""The model card says what the artifacts say, and shows texts from data as they are."""

import re

from hypothesis import given
from hypothesis import strategies as st

from scripts.config.experiment import DataConfig, Experiment
from scripts.final_training.model import load_model
from scripts.reporting.model_card import escaped, model_card
from scripts.reporting.page import percent
from scripts.storage.artifacts import read_record
from scripts.storage.evaluation_record import Evaluation
from tests.commands.test_predict import table
from tests.conftest import SCRIPTS, artifact
from tests.final_models import write_model
from tests.reporting.sample_reports import sample_evaluation

EVALUATION = SCRIPTS[-1]
HOSTILE = ("<script>alert(1)</script>", "a | b", "[x](javascript:1)", "**bold**", "`code`", "# head", "{{7*7}}")


def test_the_card_of_a_run_tells_what_its_artifacts_hold(finished_run):
    card = (finished_run.folder / "evaluation" / "model_card.md").read_text()
    results = read_record(finished_run.folder / "evaluation" / "evaluation_results.json", EVALUATION, Evaluation)
    model = load_model(finished_run.folder / "final_model.pkl")
    span = model.content.trained_on
    told = [
        percent(results.accuracy),
        *map(percent, results.naive.values()),
        *map(percent, results.references.values()),
        f"{span.n_rows:,} rows of {span.n_tickers} tickers or groups from {span.first_date}",
        f"from {results.first_date} to {results.last_date}",
        "252 dates per year, from daily bars on 5 days a week",
        str(results.epochs_spent_total),
        f"{sum(model.n_parameters):,} in total",
        "latency of 1024 rows",
        model.content.created_by.libraries["torch"],
    ]
    assert [text for text in told if text not in card] == []
    assert "torch" in card.partition("## Versions")[2]
    assert model_card(model.content, model.n_parameters, results) == card


def test_an_evaluation_holds_the_time_of_a_row_and_of_a_batch(finished_run):
    latency = artifact(finished_run.folder, "evaluation/evaluation_results.json")["latency"]
    for call in (latency["one_row"], latency["batch"]):
        assert 0 < call["p50_s"] <= call["p99_s"]
    assert "Inference latency" in (finished_run.folder / "evaluation" / "report.html").read_text()


def test_texts_from_data_are_no_markdown(tmp_path):
    data = table(900)
    data["target"] = [HOSTILE[k % len(HOSTILE)] for k in range(len(data))]
    data = data.rename(columns={"size": HOSTILE[0], "gap": HOSTILE[1]})
    data.to_csv(tmp_path / "table.csv", index=False)
    names = {"label": "column", "label_column": "target", "time_column": "day", "group_column": "who"}
    experiment = Experiment(data=DataConfig(source="table", path=str(tmp_path / "table.csv"), **names))
    decision = {"threshold": None, "margin": 0.1, "reason": HOSTILE[0]}
    hyperparameters = {"family": "mlp", "width": 8, "depth": 1}
    model = write_model(tmp_path / "final_model.pkl", experiment, hyperparameters, decision)
    sample = sample_evaluation(n_dates=30).evaluation
    changed = {"warnings": list(HOSTILE), "naive": {HOSTILE[1]: 0.5}, "best_naive": HOSTILE[1]}
    card = model_card(model.content, model.n_parameters, sample.model_copy(update=changed))
    assert "<" not in card
    assert "a \\| b" in card
    for text in HOSTILE:
        assert escaped(text) in card
        assert not re.search(rf"(?<!\\){re.escape(text)}", card)
    columns = {line.replace("\\|", "").count("|") for line in card.splitlines() if line.startswith("|")}
    assert columns == {3, 4}


@given(st.text())
def test_escaped_text_holds_no_mark_of_its_own(text):
    shown = escaped(text)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_|<>\[\]{}#]", shown.replace("\\\\", ""))
