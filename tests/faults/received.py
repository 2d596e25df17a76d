"""Artifacts that somebody has edited and signed again, each given to the commands that read it."""

import copy
import os
import random
import shutil
import signal
import sys
import time

import torch

from scripts.config.experiment import SyntheticConfig
from scripts.data.synthetic import generate
from tests.forked import start
from tests.signed import edit_json, edit_tensors

TUNING, EXTENDED, FINAL = "hyperparameter_tuning_results", "extended_training_results", "final_training_results"
# By artifact, the commands that read it: what is removed first, so that they have something to do, and their flags.
AGAIN = ("run_hyperparameter_tuning.py", (f"{TUNING}/trials.json",), ("--config", "{config}"))
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
    f"{TUNING}/plan.json": (AGAIN, EXTEND, NEXT, WARM),
    f"{TUNING}/trials.json": (EXTEND, ANALYSE, WARM, NEXT),
    f"{EXTENDED}/plan.json": (ANALYSE, COMPARE, FINISHED, EXTEND_ON),
    f"{EXTENDED}/extended_training_results.json": (ANALYSE, ANALYSE, COMPARE, FINISHED, ENSEMBLE, WARM),
    "best_config.json": (FINALISE, ENSEMBLE, FINISHED),
    f"{FINAL}/plan.json": (FINALISE_ON, TRAINED),
    f"{FINAL}/final_training_results.json": (TRAINED, EVALUATE),
    "final_model.pkl": (EVALUATE, PREDICT, PREDICT, EXPORT, EVALUATED),
    "evaluation/evaluation_results.json": (EVALUATED, PLACEBO, NEXT),
    f"{TUNING}/checkpoints/trial_0001.pt": (AGAIN,),
    f"{FINAL}/checkpoints/final_all_seed_0.pt": (FINALISE_ON,),
}
ELSEWHERE = (NEXT, WARM)  # in a run directory of their own
VALUES = [
    *(None, True, -1, 0, 1, 3, 2**31, 2**63, 10**400, 1e308, -0.5, "", "x", "mlp", "tcn", "planted:make", "../../x"),
    *("\x1b[2J", [], [1], [[]], ["x"], {}, {"a": 1}, {"mlp": "planted:make"}, "cuda:7", "complete", "stopped"),
    *("failed", "2020-01-01", "a" * 5000),
]
KEYS = ["models", "execution", "x", "family", "path", "__class__", "rank", "width"]
MOST_BYTES, MOST_S = 2**30, 120.0  # beyond what the same command takes anyway; for one command
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
    (edit_json if name.endswith(".json") else edit_tensors)(path, lambda body: changed(body, generator))
    values = {"config": config, "data": data, "calm": calm}
    given = [flag.format(**values) for flag in flags]
    folder = here / ("own" if step in ELSEWHERE else "received")
    ended, said, n_bytes = _carried_out(script, folder, here, *given)
    if ended not in MAY_END_IN or "Traceback" in said:
        return f"seed {seed}: {name} read by {script} {' '.join(flags)}: code {ended}, {said[-1500:]}"
    return f"seed {seed}: {name} read by {script} took {n_bytes} bytes" if n_bytes > MOST_BYTES else ""


def _carried_out(script, folder, here, *flags):
    """Code, output and memory of a command."""

    def prepare():
        os.chdir(here)
        watch(here)

    with open(here / "out", "w") as out, open(here / "error", "w+") as error:
        process = start(script, folder, "--workers", 1, "-q", *flags, hook=prepare, output=(out, error))
        deadline = time.monotonic() + MOST_S
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
