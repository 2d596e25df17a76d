"""Reports as a run of medium size would make them, from made-up numbers, for tests that look at pages alone."""

import math

import numpy as np

from scripts.config.experiment import Experiment
from scripts.config.search_space import FloatRange, Hyperparameters
from scripts.extended_training.out_of_fold import FoldSpan
from scripts.reporting.evaluation_page import TrainingRecord
from scripts.reporting.report import AnalysisReport, EvaluationReport
from scripts.statistics.metrics import ReliabilityBin
from scripts.storage.evaluation_record import Evaluation
from scripts.storage.extended_record import Extended
from scripts.storage.model_record import FinalModelContent, MemberContent, Span
from scripts.storage.record_base import Epoch
from scripts.storage.records import BestConfig, Trials
from scripts.storage.result_records import SeedCurves, Selection

MADE = {"config_hash": "9f" * 32, "data_fingerprint": "1c" * 32, "sealed_fingerprint": "2d" * 32, "inputs": {}}
ACCURACY = {
    "accuracy": 0.534,
    "accuracy_se": 0.0035,
    "accuracy_ci95": [0.527, 0.541],
    "best_naive": "best_constant",
    "skill": 0.02,
    "skill_se": 0.004,
    "skill_degrees_of_freedom": 60,
    "detectable_skill": 0.011,
    "skill_ci95": [0.012, 0.028],
    "skill_p_value": 0.001,
    "verdict": "skill",
    "primary_test": {"name": "forecast encompassing", "statistic": 3.4, "degrees_of_freedom": 60, "p_value": 0.001},
    "constant_answer": None,
    "corrected_for_openings": 1,
    "accuracy_ci95_uncorrected": [0.527, 0.541],
    "skill_ci95_uncorrected": [0.012, 0.028],
    "skill_p_value_uncorrected": 0.001,
    "verdict_uncorrected": "skill",
    "n_dates": 1500,
    "block_length_dates": 2.0,
    "n_effective": 20_000.0,
    "n_effective_labels": 30_000.0,
}
PROBABILITIES = {
    "auc": 0.551,
    "auc_ci95": [0.54, 0.56],
    "log_loss": 0.6895,
    "log_loss_ci95": [0.688, 0.691],
    "log_loss_skill": 0.003,
    "log_loss_skill_ci95": [0.001, 0.005],
    "brier": 0.2481,
    "ece": 0.011,
    "balanced_accuracy": 0.533,
    "mcc": 0.066,
    "average_precision": 0.54,
}
RETURNS = {
    "gross": 0.41,
    "net": 0.22,
    "sharpe": 0.71,
    "max_drawdown": -0.12,
    "turnover": 0.34,
    "break_even_cost_bps": 9.6,
    "hit_rate": 0.53,
    "exposure": 1.0,
    "n_dates": 1500,
    "buy_and_hold": 0.31,
    "cost_bps": 5.0,
    "periods_per_year": 252.0,
    "periods_per_year_from": "bars on five days a week",
    "beside": {
        "buy_and_hold": {"gross": 0.312, "net": 0.31, "volatility": 0.19, "sharpe": 0.55, "sharpe_se": 0.5}
        | {"max_drawdown": 0.27, "turnover": 0.01},
        "equal_weight_rebalanced": {"gross": 0.32, "net": 0.3, "volatility": 0.2, "sharpe": None, "sharpe_se": None}
        | {"max_drawdown": 0.28, "turnover": 0.02},
    },
    "by_cost": [{"cost_bps": float(c), "net": 0.41 - 0.043 * c} for c in range(15)],
}
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


def sample_trials(rng, shrink=1):
    trials = []
    for stage, count, epochs in STAGES:
        for _ in range(count // shrink):
            values = {
                "family": str(rng.choice(["mlp", "resnet", "gru", "tcn"])),
                "learning_rate": float(10 ** rng.uniform(-3.5, -2)),
                "weight_decay": float(10 ** rng.uniform(-5, -1)),
                "width": int(rng.choice([32, 64, 128])),
                "dropout": float(rng.uniform(0, 0.5)),
                "batch_size": int(rng.choice([256, 512, 1024])),
            }
            if values["family"] in ("gru", "tcn"):
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
    spent = {"epochs_spent": epochs, "duration_s": epochs * 0.8, "data_passes": epochs * 0.7}
    return Trials.model_validate({**MADE, **spent, "seed": 1, "trials": trials, "files": {}})


def sample_analysis(family="gru", warning="column `close_next` predicts the label with an AUC of 0.97", shrink=5):
    rng = np.random.default_rng(3)
    trials = sample_trials(rng, shrink)
    candidates = []
    for rank, trial in enumerate(sorted(trials.usable, key=lambda trial: -trial.accuracy)[:5], start=1):
        folds = [0.535 - 0.002 * rank + rng.normal(0, 0.004) for _ in range(3)]
        candidates.append(
            {
                "rank": rank,
                "trial_number": trial.number,
                "config": trial.hyperparameters,
                "phase_1_accuracy": trial.accuracy,
                "avg_accuracy": float(np.mean(folds)),
                "std_accuracy": float(np.std(folds, ddof=1)),
                "accuracy_se": float(np.std(folds, ddof=1)) / math.sqrt(3),
                "behind": 0.002 * (rank - 1),
                "behind_se": 0.003,
                "operations_per_row": 50_000,
                "seeds": [1, 1, 1],
                "decision": None,
                "skill": float(np.mean(folds)) - 0.515,
                "skill_se": 0.006,
                "skill_ci95": [float(np.mean(folds)) - 0.527, float(np.mean(folds)) - 0.503],
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
    chosen = candidates[0]
    space = {
        "learning_rate": FloatRange(low=1e-4, high=1e-2, log=True),
        "weight_decay": FloatRange(low=1e-6, high=0.2, log=True),
        "family": "mlp",
    }
    extended = {"n_folds": 3, "epochs_spent": 900, "data_passes": 600.0, "best_constant_accuracy": 0.512}
    report = AnalysisReport(
        trials=trials,
        extended=Extended.model_validate(
            {**MADE, **extended, "best_naive": "persistence", "configurations": candidates}
            | {"created_by": created, "reason": reason, "files": {}}
        ),
        best=BestConfig.model_validate(
            {**MADE, "created_by": created, "hyperparameters": chosen["config"], "epochs_spent": {}}
            | {"experiment": Experiment(search_space=space)}
            | {"selection": {"trial_number": chosen["trial_number"], "reason": reason}}
        ),
        fold_spans=[FoldSpan(k, f"201{k}-01-04", f"201{k}-12-28", 0.51 + 0.002 * k) for k in range(3)],
        importance={"learning_rate": 0.52, "family": 0.21, "dropout": 0.12, "width": 0.1, "window": 0.05},
        warnings=[warning],
    )
    configurations = report.extended.configurations
    for values in (*(t.hyperparameters for t in trials.trials), *(c.config for c in configurations)):
        if values["family"] == "gru":  # any text, also one that no record would hold
            values["family"] = family
    return report


def sample_evaluation(ticker="AAPL", n_dates=1500):
    rng = np.random.default_rng(5)
    market = rng.normal(3e-4, 0.01, n_dates)
    dates = np.datetime64("2018-01-02") + np.arange(n_dates)
    tickers = [ticker] + [f"T{k:02d}" for k in range(19)]
    body = {
        **{name: value for name, value in MADE.items() if name != "inputs"},
        "created_by": {"version": "0.1.0"},
        "n_rows": 30_000,
        "first_date": str(dates[0]),
        "last_date": str(dates[-1]),
        **ACCURACY,
        "naive": {"best_constant": 0.514, "majority": 0.512, "persistence": 0.497},
        "references": {"logistic_regression": 0.526, "gradient_boosting": 0.532},
        "ceiling": 0.561,
        "expected_accuracy": None,
        **PROBABILITIES,
        "tests": {"mcnemar": {"p_mid": 0.004, "p_exact": 0.005}, "diebold_mariano": None},
        "versus_reference": {"name": "gradient_boosting", "difference": 0.002, "se": 0.003, "ci95": [-0.004, 0.008]},
        "versus_references": {
            "logistic_regression": {"difference": 0.008, "se": 0.003, "ci95": [0.002, 0.014]},
            "gradient_boosting": {"difference": 0.002, "se": 0.003, "ci95": [-0.004, 0.008]},
        },
        "promised": {"skill": 0.02, "skill_se": 0.006},
        "by_seed": [0.531, 0.529, 0.533],
        "by_group": {t: {"accuracy": 0.534 + float(rng.normal(0, 0.012)), "n_rows": 1500} for t in tickers},
        "by_year": {
            str(y): {"accuracy": 0.534 + float(rng.normal(0, 0.008)), "n_rows": 7300} for y in range(2018, 2023)
        },
        "by_volatility": {
            "low": {"accuracy": 0.521, "n_rows": 9000, "from": None, "to": 0.0081},
            "middle": {"accuracy": 0.537, "n_rows": 11000, "from": 0.0081, "to": 0.0125},
            "high": {"accuracy": 0.544, "n_rows": 10000, "from": 0.0125, "to": None},
        },
        "class_shares": [0.49, 0.51],
        "drift": [
            {"feature": f"feature_{k}", "psi": 0.4 / (k + 1), "ks": 0.2 / (k + 1), "p_value": 0.001} for k in range(6)
        ],
        "n_duplicates": 0,
        "class_positions": {"down": -1.0, "up": 1.0},
        "returns": RETURNS,
        "costs": None,
        "decision": {"threshold": 0.5, "margin": 0.0, "reason": "kept"}
        | {"coverage": 1.0, "accuracy": 0.534, "net": 0.22, "curve": []},
        "decay": None,
        "warnings": ["only 1 % of the rows are warm"],
        "notes": ["5 rows without a forward return were left out"],
        "epochs_spent_total": 2210,
        "epochs_spent": {"tuning": 500, "extended": 1500, "final": 210},
        "test_openings": 2,
        "openings_by_other_runs": [],
        "opened_in_words": "2 times",
        "opened": {"model_sha256": "3e" * 32, "data": "sealed"},
        "files": {},
    }
    return EvaluationReport(
        evaluation=Evaluation.model_validate(body),
        model=sample_model(),
        n_parameters=[25_000],
        dates=[str(d) for d in dates],
        curves={
            "model after costs": np.cumprod(1 + market * 0.4 + rng.normal(2e-4, 0.004, n_dates)),
            "buy and hold": np.cumprod(1 + market),
        },
        reliability=[
            ReliabilityBin(index=k, count=9000 // (k + 1), confidence=0.5 + 0.03 * k, accuracy=0.5 + 0.026 * k)
            for k in range(6)
        ],
        confusion=[[7200, 7300], [6700, 8800]],
        training_record=TrainingRecord(
            durations_s={"tuning": 300.0, "extended": 900.0, "final": 120.0},
            seeds=[SeedCurves(history=[Epoch(**epoch) for epoch in history(rng, 40, 0.53)]) for _ in range(3)],
        ),
    )


def sample_model():
    """Content of a final model without its tensors."""
    member = {"trial_number": 7, "weight": 1.0, "hyperparameters": Hyperparameters(family="mlp", width=64)}
    span = {"n_rows": 90_000, "n_tickers": 20, "first_date": "2000-01-03", "last_date": "2017-12-29"}
    return FinalModelContent.model_construct(
        members=[MemberContent.model_construct(**member, weights=[{}])],
        selection=Selection(reason="trial 7 (mlp), the best"),
        trained_on=Span(**span),
        classes=["down", "up"],
    )
