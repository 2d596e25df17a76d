"""Artifacts that somebody has edited and signed again, each given to the commands that read it."""

import contextlib
import copy
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from scripts.config.experiment import SyntheticConfig
from scripts.data.synthetic import generate
from scripts.storage.durable_files import file_sha256
from scripts.tuning.study_records import signed
from tests.forked import start
from tests.signed import edit_json, edit_tensors

TUNING, EXTENDED, FINAL = "hyperparameter_tuning_results", "extended_training_results", "final_training_results"
# By artifact, the commands that read it: what is removed first, so that they have something to do, and their flags.
TUNE = ("run_hyperparameter_tuning.py", (f"{TUNING}/trials.json",), ("--config", "{config}"))
EXTEND = ("run_extended_training.py", (EXTENDED, "best_config.json", "final_model.pkl", FINAL, "evaluation"), ())
EXTEND_ON = ("run_extended_training.py", (f"{EXTENDED}/extended_training_results.json", "best_config.json"), ())
FINISHED = ("run_extended_training.py", (), ())
ANALYSE = ("analyze_results.py", ("best_config.json",), ())
FINALISE = ("run_final_training.py", ("final_model.pkl", FINAL, "evaluation"), ())
FINALISE_ON = ("run_final_training.py", (f"{FINAL}/final_training_results.json", "final_model.pkl", "evaluation"), ())
ENSEMBLE = ("run_final_training.py", ("final_model.pkl", FINAL, "evaluation"), ("--ensemble", "3", "--dry-run"))
TRAINED = ("run_final_training.py", (), ())
EVALUATE = ("evaluate_model.py", ("evaluation",), ())
EVALUATED = ("evaluate_model.py", (), ())
PREDICT = ("evaluate_model.py", (), ("--predict", "{data}", "--out", "p.csv"))
EXPORT = ("evaluate_model.py", (), ("--export", "torch", "--out", "m.pt2"))
NEXT = ("run_hyperparameter_tuning.py", (), ("--next", "received", "--dry-run"))
WARM = ("run_hyperparameter_tuning.py", (), ("--warm-start", "received", "--config", "{config}", "--dry-run"))
COMPARE = ("analyze_results.py", (), ("--compare", "received", "{calm}"))
PLACEBO = ("run_placebo.py", (), ("--n", "1", "--dry-run"))
READERS = {
    f"{TUNING}/plan.json": (TUNE, EXTEND, NEXT, WARM),
    f"{TUNING}/trials.json": (EXTEND, ANALYSE, WARM, NEXT),
    f"{EXTENDED}/plan.json": (ANALYSE, COMPARE, FINISHED, EXTEND_ON),
    f"{EXTENDED}/extended_training_results.json": (ANALYSE, ANALYSE, COMPARE, FINISHED, ENSEMBLE, WARM),
    "best_config.json": (FINALISE, ENSEMBLE, FINISHED),
    f"{FINAL}/plan.json": (FINALISE_ON, TRAINED),
    f"{FINAL}/final_training_results.json": (TRAINED, EVALUATE),
    "final_model.pkl": (EVALUATE, PREDICT, PREDICT, EXPORT, EVALUATED),
    "evaluation/evaluation_results.json": (EVALUATED, PLACEBO, NEXT),
    f"{TUNING}/checkpoints/trial_0001.pt": (TUNE,),
    f"{FINAL}/checkpoints/final_all_seed_0.pt": (FINALISE_ON,),
    f"{TUNING}/study.db": (TUNE, TUNE, TUNE),
    f"{TUNING}/validation_by_date.parquet": (ANALYSE, EXTEND),
    f"{EXTENDED}/out_of_fold_predictions.parquet": (ANALYSE, ENSEMBLE, FINALISE),
    "test_openings.jsonl": (EVALUATE, EVALUATED, NEXT),
    "events.jsonl": (ANALYSE,),
}
# The artifact that holds the digest of a table.
LISTED_IN = {
    "validation_by_date.parquet": "trials.json",
    "out_of_fold_predictions.parquet": "extended_training_results.json",
}
ELSEWHERE = (NEXT, WARM)  # in a run directory of their own
VALUES = [
    *(None, True, -1, 0, 1, 3, 2**31, 2**63, 10**400, 1e308, -0.5, "", "x", "mlp", "tcn", "planted:make", "../../x"),
    *("\x1b[2J", [], [1], [[]], ["x"], {}, {"a": 1}, {"mlp": "planted:make"}, "cuda:7", "complete", "stopped"),
    *("failed", "2020-01-01", "a" * 5000),
]
KEYS = ["models", "execution", "x", "family", "path", "__class__", "rank", "width"]
MAX_BYTES, MAX_S = 2**30, 120.0  # beyond what the same command takes anyway; for one command
MAY_END_IN = {0, 2, 3, 5}
PLANTED = "raise SystemExit('a module of the current directory was imported')\n"


def changed(content, generator):
    """`content` with up to three accidents of structure."""
    content = copy.deepcopy(content)
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        _change(content, generator)
    return content


def _change(content, generator):
    """Replace, drop, add, repeat or swap a value somewhere below."""
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = generator.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and generator.random() < 0.75:
            place = place[key]
            continue
        break
    kind = generator.randrange(6)
    if isinstance(place[key], torch.Tensor) and kind < 4:
        place[key] = _tensor(place[key], generator)
    elif kind == 0:
        del place[key]
    elif kind == 1:
        added = generator.choice(VALUES)
        place.append(added) if isinstance(place, list) else place.__setitem__(generator.choice(KEYS), added)
    elif kind == 2 and isinstance(place, list):
        place += place * generator.choice((1, 5))
    elif kind == 3:
        other = generator.choice(keys)
        place[key], place[other] = place[other], place[key]
    else:
        place[key] = generator.choice(VALUES)


def _tensor(tensor, generator):
    n = max(1, tensor.numel())
    return generator.choice(
        (
            tensor[:0] if tensor.dim() else tensor.reshape(1),
            tensor.double() if tensor.dtype != torch.float64 else tensor.float(),
            tensor.reshape(-1).repeat(3),
            tensor.to(torch.int64),
            torch.full_like(tensor, -1),
            torch.full(tensor.shape, float("nan")),
            torch.full(tensor.shape, 10**9),
            torch.zeros(1).expand(10**9),
            tensor.reshape(1, n) if tensor.numel() else torch.zeros(1, 1),
            torch.tensor(5.0),
        )
    )


def edit(path, generator):
    """Change an artifact of any format, and make its digest fit again."""
    if path.suffix == ".json":
        edit_json(path, lambda body: changed(body, generator))
    elif path.suffix == ".parquet":
        pq.write_table(_changed_table(pq.read_table(path), generator), path)
        listed = {path.name: file_sha256(path)}
        edit_json(path.parent / LISTED_IN[path.name], lambda body: body | {"files": body["files"] | listed})
    elif path.suffix == ".jsonl":
        path.write_bytes(_changed_lines(path.read_bytes().splitlines(keepends=True), generator))
    elif path.suffix == ".db":
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            generator.choice((_change_cell, _change_record))(database, generator)
    else:
        edit_tensors(path, lambda body: changed(body, generator))


def _changed_table(table, generator):
    """A table with another column, type, cell or number of rows."""
    place = generator.randrange(table.num_columns)
    name, column = table.column_names[place], table.column(place)
    with_column = lambda values: table.set_column(place, name, values)  # noqa: E731
    nothing = pa.nulls(table.num_rows)
    return generator.choice(
        (
            lambda: table.drop_columns([name]),
            lambda: table.rename_columns(["x" if other == name else other for other in table.column_names]),
            lambda: with_column(nothing),
            lambda: with_column(nothing.cast(column.type)),
            lambda: with_column(pa.array([str(value) for value in column.to_pylist()])),
            lambda: with_column(pa.array([[value] for value in column.to_pylist()])),
            lambda: with_column(pa.array([float("nan")] * table.num_rows)),
            lambda: with_column(pa.array([generator.choice((-1, 2**62))] * table.num_rows)),
            lambda: with_column(column.take(list(reversed(range(table.num_rows))))),
            lambda: table.slice(0, generator.choice((0, 1, table.num_rows // 2))),
            lambda: pa.concat_tables([table] * 3),
            lambda: table.append_column(name, column),
        )
    )()


def _changed_lines(lines, generator):
    """Lines of JSON of which one is changed, damaged, repeated or lost."""
    place = generator.randrange(len(lines))
    kind = generator.randrange(6)
    if kind < 3:
        lines[place] = json.dumps(changed(json.loads(lines[place]), generator)).encode() + b"\n"
    elif kind == 3:
        lines[place] = lines[place][: generator.randrange(len(lines[place]))]
    elif kind == 4:
        lines[place] = generator.choice((b"\n", b"[]\n", b"null\n", b"\xff\n", b"[" * 10**5 + b"\n", b"{}\n" * 1000))
    else:
        lines += lines[place:] * generator.choice((1, 50))
    return b"".join(lines)


def _change_cell(database, generator):
    """Replace one cell of any table of a study."""
    tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
    tables = [name for name in tables if database.execute(f"select count(*) from {name}").fetchone()[0]]
    table = generator.choice(sorted(tables))
    column = generator.choice([row[1] for row in database.execute(f"pragma table_info({table})")])
    rows = [row for (row,) in database.execute(f"select rowid from {table}")]
    plain = [value for value in VALUES if value is None or isinstance(value, bool | float | str)]
    value = generator.choice([*plain, -1, 2**40, b"\xff"])
    with contextlib.suppress(sqlite3.IntegrityError):
        database.execute(f"update or ignore {table} set {column} = ? where rowid = ?", (value, generator.choice(rows)))


def _change_record(database, generator):
    """Change the outcome of one trial, and sign it again."""
    records = database.execute("select rowid, trial_id, value_json from trial_user_attributes where key = 'result'")
    row, trial, text = generator.choice(records.fetchall())
    (number,) = database.execute("select number from trials where trial_id = ?", (trial,)).fetchone()
    body = json.loads(text)
    del body["sha256"]
    body = signed(f"trial {number}", changed(body, generator))
    database.execute("update trial_user_attributes set value_json = ? where rowid = ?", (json.dumps(body), row))


def watch(folder):
    """End this process at whatever an artifact must never bring about."""

    def refuse(event, arguments):
        bad = event in ("os.system", "os.posix_spawn")
        bad = bad or (event == "import" and str(arguments[0]).startswith("planted"))
        bad = bad or (event == "subprocess.Popen" and str(arguments[0]) not in ("git", "lscpu"))
        if event == "open" and isinstance(arguments[0], str) and isinstance(arguments[1], str):
            writes = set("wax+") & set(arguments[1])
            bad = bool(writes) and not os.path.abspath(arguments[0]).startswith(
                (str(folder), "/dev/", "/tmp/", "/proc/")
            )
        if bad:
            os.write(2, f"Traceback of an attack: {event} {arguments!r:.300}\n".encode())
            os._exit(99)

    sys.addaudithook(refuse)


def new_data(path):
    """Write rows to predict for; their file."""
    bars, _ = generate(SyntheticConfig(n_tickers=3, n_days=200))
    bars.to_csv(path, index=False)
    return path


def problem(seed, calm, config, data, scratch):
    """What went wrong where one artifact of the run `calm` was changed and a command read it; empty if nothing did."""
    generator = random.Random(seed)
    name = generator.choice(list(READERS))
    script, removed, flags = step = generator.choice(READERS[name])
    here = scratch / "here"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(calm, here / "received", ignore=shutil.ignore_patterns("tensorboard_logs"))
    (here / "planted.py").write_text(PLANTED)
    for gone in removed:
        path = here / "received" / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    path = here / "received" / name
    if not path.exists():
        return ""
    edit(path, generator)
    values = {"config": config, "data": data, "calm": calm}
    given = [flag.format(**values) for flag in flags]
    folder = here / ("own" if step in ELSEWHERE else "received")
    ended, said, n_bytes = _carried_out(script, folder, here, *given)
    if ended not in MAY_END_IN or "Traceback" in said:
        return f"seed {seed}: {name} read by {script} {' '.join(flags)}: code {ended}, {said[-1500:]}"
    return f"seed {seed}: {name} read by {script} took {n_bytes} bytes" if n_bytes > MAX_BYTES else ""


def _carried_out(script, folder, here, *flags):
    """Code, output and memory of a command."""

    def prepare():
        os.chdir(here)
        watch(here)

    with open(here / "out", "w") as out, open(here / "error", "w+") as error:
        process = start(script, folder, "--workers", 1, "-q", *flags, hook=prepare, output=(out, error))
        deadline = time.monotonic() + MAX_S
        while True:
            number, status, usage = os.wait4(process, os.WNOHANG)
            if number:
                break
            if time.monotonic() > deadline:
                os.killpg(process, signal.SIGKILL)
                os.wait4(process, 0)
                return "no end", "", 0
            time.sleep(0.01)
        error.seek(0)
        own = 2**10 * usage.ru_maxrss
        return os.waitstatus_to_exitcode(status), error.read(), own
