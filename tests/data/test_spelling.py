"""The same rows give the same numbers from a CSV, a Parquet file and a data frame, whatever the kind of their cells."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.commands.predict import predict_file
from scripts.config.experiment import DataConfig, Experiment
from scripts.data.files.mapped_rows import NO_BOUND, MemoryBound
from scripts.data.files.raw_tables import frame_table, read_table
from scripts.data.files.spelling import positions_of, spelled
from scripts.data.inference_rows import Schema, table_rows
from scripts.data.loading import load_development, load_other
from scripts.errors import InputError
from tests.final_models import write_model

N_ROWS = 30
WORDS = ["NA", "nan", "None", "007", "7", "1e5", "1.0", "2.50", "TRUE", "true", "no", " b ", "2020-01-01", "-", "é,\n'"]
DAYS = pd.Timestamp("1999-12-31") + pd.to_timedelta(range(40), unit="D")
MOMENTS = [day + pd.Timedelta(hours=5 * k, microseconds=10 * k) for k, day in enumerate(DAYS)]
MLP = {"family": "mlp", "width": 4, "depth": 1}


def column(kind, values):
    """A pandas column of a kind from positions; -1 is a missing cell."""
    choices = {
        "bool": [True, False],
        "whole": [3, 1, 4, -15, 10**9],
        "float": [0.1, 1.0, -2.5, 1e-7, 1e11 / 3],
        "text": WORDS,
        "day": list(DAYS),
        "moment": MOMENTS,
        "zoned": [moment.tz_localize("America/New_York") for moment in MOMENTS],
        "clock": [moment.time() for moment in MOMENTS],
    }[kind]
    cells = [None if k < 0 else choices[k % len(choices)] for k in values]
    dtype = {
        "bool": "boolean",
        "whole": "Int64",
        "float": "float64",
        "day": "datetime64[us]",
        "moment": "datetime64[ns]",
        "zoned": "datetime64[ns, America/New_York]",
    }.get(kind, object)
    return pd.Series(cells, dtype=dtype)


KINDS = ("bool", "whole", "float", "text", "day", "moment", "zoned", "clock")
POSITIONS = st.lists(st.integers(-1, 39), min_size=N_ROWS, max_size=N_ROWS)
COLUMNS = st.lists(st.tuples(st.sampled_from(KINDS), st.booleans(), POSITIONS), min_size=1, max_size=4)


def config_of(path):
    return DataConfig(source="table", label="column", path=str(path), label_column="y")


def asked(table, config, dataset):
    """What a model of a data set would be asked for the rows of a table."""
    schema = Schema(config, dataset.feature_names, dataset.vocabularies, None, 1)
    (part,) = table_rows(iter([table]), schema)
    return part.x


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(columns=COLUMNS, seed=st.integers(0, 99))
def test_csv_parquet_and_frame_are_the_same_bits(tmp_path, columns, seed):
    frame = pd.DataFrame({"base": np.random.default_rng(seed).standard_normal(N_ROWS)})
    for k, (kind, as_category, values) in enumerate(columns):
        made = column(kind, values)
        frame[f"c{k}"] = made.astype("category") if as_category else made
    frame["y"] = np.arange(N_ROWS) % 2 == 0
    csv, parquet = tmp_path / "t.csv", tmp_path / "t.parquet"
    frame.to_csv(csv, index=False)
    frame.to_parquet(parquet, index=False)
    mapped = MemoryBound(0, tmp_path) if seed % 2 else NO_BOUND
    sets = []
    for path, bound in ((csv, NO_BOUND), (parquet, NO_BOUND), (parquet, mapped)):
        try:
            sets.append(load_development(config_of(path), 1, 0, bound))
        except InputError as error:
            sets.append(str(error).partition(":")[2])
    if isinstance(sets[0], str):  # a column that is text in the sealed rows alone
        assert sets == [sets[0]] * 3
        return
    first = sets[0]
    assert first.classes == ("False", "True")
    for other in sets[1:]:
        assert other.x.tobytes() == first.x.tobytes() and other.vocabularies == first.vocabularies
        assert (other.y == first.y).all() and other.classes == first.classes
        assert other.fingerprint == first.fingerprint
    config = config_of(csv)
    kept = frame[["base", *(name for name in frame if name in first.feature_names and name != "base")]]
    wanted = asked(read_table(csv, config, []), config, first)
    plain = pd.read_csv(csv, keep_default_na=False)
    for table in (read_table(parquet, config, []), frame_table(kept, []), frame_table(plain, [])):
        assert asked(table, config, first).tobytes() == wanted.tobytes()


@pytest.fixture
def flagged(tmp_path):
    """A table with a flag, and a model that was trained on it as a CSV."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"flag": rng.random(200) < 0.5, "region": rng.choice(["NA", "EU"], 200)})
    frame["num"] = rng.standard_normal(200)
    frame["y"] = np.where(frame.flag, "buy", "sell")
    path = tmp_path / "train.csv"
    frame.to_csv(path, index=False)
    experiment = Experiment(data=config_of(path), search_space={"family": "mlp"})
    return frame, write_model(tmp_path / "final_model.pkl", experiment, MLP)


@pytest.mark.parametrize("cells", [bool, "boolean", "bool[pyarrow]", int, float, str, object, "category"])
def test_booleans_of_any_kind_are_answered_alike(flagged, cells):
    frame, model = flagged
    new = frame.drop(columns="y")
    answers = model.predict(new.assign(flag=new.flag.astype(str)))
    pd.testing.assert_frame_equal(model.predict(new.assign(flag=new.flag.astype(cells))), answers)


@pytest.mark.parametrize("words", [("TRUE", "FALSE"), ("true", "false"), ("1", "0"), ("1.0", "0.0")])
def test_booleans_in_another_spelling_are_answered_alike_from_a_file(flagged, tmp_path, words):
    frame, model = flagged
    answers = []
    for flag in (frame.flag, np.where(frame.flag, *words)):
        frame.drop(columns="y").assign(flag=flag).to_csv(tmp_path / "new.csv", index=False)
        assert not any(
            cells.n_unknown for cells in predict_file(model, tmp_path / "new.csv", tmp_path / "o").unknown.values()
        )
        answers.append((tmp_path / "o").read_bytes())
    assert answers[0] == answers[1]


def test_a_numeric_column_takes_booleans_as_one_and_zero(flagged, tmp_path):
    frame, _ = flagged
    path = tmp_path / "numbers.csv"
    (tmp_path / "other").mkdir()
    frame.assign(flag=frame.flag.astype(int)).to_csv(path, index=False)
    model = write_model(
        tmp_path / "other/final_model.pkl", Experiment(data=config_of(path), search_space={"family": "mlp"}), MLP
    )
    new = frame.drop(columns="y")
    pd.testing.assert_frame_equal(model.predict(new), model.predict(new.assign(flag=new.flag.astype(int))))


def test_missing_cells_of_a_frame_that_may_have_been_a_category_are_refused(flagged, tmp_path):
    frame, model = flagged
    path = tmp_path / "new.csv"
    frame.drop(columns="y").to_csv(path, index=False)
    with pytest.raises(InputError, match=r"column region has missing cells.*'NA'.*keep_default_na=False"):
        model.predict(pd.read_csv(path))
    whole = model.predict(pd.read_csv(path, keep_default_na=False))
    predict_file(model, path, tmp_path / "answers.csv")
    assert (pd.read_csv(tmp_path / "answers.csv").predicted == whole.predicted).all()


def test_missing_cells_of_judged_data_that_may_have_been_a_category_are_noted(flagged, tmp_path):
    frame, _ = flagged
    config, path = config_of(tmp_path / "train.csv"), tmp_path / "new.csv"
    development = load_development(config, 1, 0)
    frame.assign(num=frame.num + 1).to_csv(path, index=False)
    assert not any("missing cells" in note for note in load_other(config, 1, path, development, 0)[0].notes)
    pd.read_csv(path).to_csv(path, index=False)
    notes = load_other(config, 1, path, development, 0)[0].notes
    assert "column region has missing cells, which may have been its category 'NA'" in notes


def test_unknown_categories_are_named_with_those_of_training(flagged):
    frame, model = flagged
    new = frame.drop(columns="y").iloc[:12].assign(region=["XX", "YY"] * 6)
    with pytest.warns(UserWarning, match="12 of 12 cells of region are unknown: 'XX', 'YY'; training knew 'EU', 'NA'"):
        model.predict(new)


def test_labels_in_the_other_spelling_are_judged_and_unknown_ones_are_named(tmp_path):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"x": rng.standard_normal(200), "day": pd.date_range("2020", periods=200)})
    frame["y"] = frame.x > 0
    frame.iloc[:150].to_parquet(tmp_path / "train.parquet")
    config = config_of(tmp_path / "train.parquet").model_copy(update={"time_column": "day"})
    later, path = frame.iloc[150:], tmp_path / "later.csv"
    development = load_development(config, 1, 0)
    for label in (later.y, later.y.astype(str).str.upper(), later.y.astype(int)):
        later.assign(y=label).to_csv(path, index=False)
        judged, *_ = load_other(config, 1, path, development, 0)
        assert (judged.y[judged.rows] == later.y.astype(int).iloc[judged.rows]).all()
    later.assign(y=np.where(later.y, "yes", "no")).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"their label is not one of 'False', 'True' but '(yes|no)', '(yes|no)'"):
        load_other(config, 1, path, development, 0)


@pytest.mark.parametrize("pair", [("01", "1"), ("1e5", "100000"), (".1", "0.1"), ("010", "10")])
def test_labels_of_one_value_in_two_spellings_are_refused(tmp_path, pair):
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{k},{(*pair, 'z')[k % 3]}\n" for k in range(60)))
    with pytest.raises(InputError, match="has the value of the label"):
        load_development(config_of(path), 1, 0)


@pytest.mark.parametrize("pair", [("1", "1.0"), ("+1", "1"), ("2.50", "2.5")])
def test_plain_numbers_are_labels_by_value(tmp_path, pair):
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{k},{(*pair, 0)[k % 3]}\n" for k in range(60)))
    assert len(load_development(config_of(path), 1, 0).classes) == 2


@given(st.text(max_size=20) | st.sampled_from(WORDS))
def test_a_spelling_is_spelled_as_it_is(cell):
    assert spelled(spelled(cell)) == spelled(cell)


def test_words_of_an_earlier_model_are_found_by_their_spelling():
    assert positions_of(["True", "FALSE", "1", "x"], ["false", "true"]).tolist() == [1, 0, 1, -1]
    assert positions_of(["TRUE", "True", "true"], ["TRUE", "True"]).tolist() == [
        0,
        1,
        -1,
    ]  # two words, not to be guessed
