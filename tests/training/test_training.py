"""One training run: what it learns, when it stops, that it resumes to the same bits, and how it fails."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from scripts.config.search_space import Hyperparameters
from scripts.data.dataset import Dataset
from scripts.data.preprocessing import Preprocessor
from scripts.statistics.returns import TradingRules, total_return
from scripts.storage.artifacts import pack_tensors, unpack_tensors
from scripts.training.early_stopping import EarlyStopping
from scripts.training.models.layers import PooledDropout
from scripts.training.models.registry import build_model
from scripts.training.optimisation import learning_rate_share
from scripts.training.order import batch_bounds
from scripts.training.run import TrainingRun
from scripts.training.spec import RunSpec
from scripts.training.trading import SimulatedTrading

N, F = 600, 6


def dataset(seed=0, n_classes=2):
    """One ticker whose label is the sign of a product of two features and, for windows, depends on the row before."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((N, F)).astype(np.float32)
    score = x[:, 0] + 0.5 * np.roll(x[:, 1], 1)
    y = np.digitize(score, np.quantile(score, np.arange(1, n_classes) / n_classes)).astype(np.int64)
    row = np.arange(N)
    return Dataset(
        x=x,
        feature_names=tuple(f"f{k}" for k in range(F)),
        categorical=np.zeros(F, dtype=bool),
        vocabularies={},
        y=y,
        classes=tuple(map(str, range(n_classes))),
        date=row,
        dates=np.datetime64("2020-01-01") + row,
        ticker=np.zeros(N, dtype=np.int64),
        tickers=("A",),
        feature_start=np.maximum(row - 9, 0),
        label_end=np.minimum(row + 1, N - 1),
        forward_return=np.where(y == 1, 0.01, -0.01),
        class_positions=tuple(np.linspace(-1, 1, n_classes).tolist()),
        naive={},
        rows=row[10:-1],
        horizon=1,
        embargo=2,
        groups=False,
        ordered=True,
        fingerprint="",
        sealed_fingerprint="",
    )


DATA = dataset()
FAMILIES = ("mlp", "resnet", "tabm", "gru", "tcn", "transformer")


def spec(**changes):
    train, validation = DATA.tail_split(0.3, 0)
    values = changes.pop("hyperparameters", {})
    hyperparameters = Hyperparameters(**({"width": 16, "batch_size": 64, "learning_rate": 5e-3} | values))
    base = RunSpec("run", (0, "trial", 0), hyperparameters, train, validation, epochs=6, trading=TradingRules(5.0))
    return dataclasses.replace(base, **changes)


def finished(run):
    while not run.finished:
        run.advance()
    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns(family):
    run = finished(TrainingRun(spec(epochs=15, hyperparameters={"family": family, "window": 4}), DATA))
    assert run.outcome.state == "complete"
    assert run.outcome.val_accuracy > 0.75
    assert run.outcome.simulated_return > 0
    assert run.outcome.n_parameters == sum(p.numel() for p in run.model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_run_ends_in_the_same_bits(family, optimizer):
    values = {"family": family, "window": 3, "optimizer": optimizer, "schedule": "cosine", "dropout": 0.3}
    settings = spec(hyperparameters=values, ema_decay=0.9, warmup_epochs=1)
    straight = finished(TrainingRun(settings, DATA))
    for stop in (1, 3, 5):
        first = TrainingRun(settings, DATA)
        first.advance(stop)
        torch.rand(17)  # other random work in between must not matter
        second = TrainingRun(settings, DATA)
        second.load_state_dict(unpack_tensors(pack_tensors(first.state_dict())))
        finished(second)
        assert torch.equal(second.validation_logits, straight.validation_logits)
        for name, weight in straight.best_weights.items():
            assert torch.equal(second.best_weights[name], weight)
        for a, b in zip(second.history, straight.history, strict=True):
            assert dataclasses.replace(a, duration_s=0, examples_per_s=0) == dataclasses.replace(
                b, duration_s=0, examples_per_s=0
            )


@pytest.mark.parametrize("family", FAMILIES)
def test_products_of_16_bits_train_nearly_as_well(family):
    values = {"family": family, "dropout": 0.0, "window": 3 if family in ("gru", "tcn", "transformer") else 1}
    exact, rounded = (
        finished(TrainingRun(spec(hyperparameters=values | {"precision": precision}), DATA)).outcome
        for precision in ("float32", "bfloat16")
    )
    assert rounded.train_loss != exact.train_loss
    assert rounded.train_loss == pytest.approx(exact.train_loss, abs=0.02)
    assert rounded.val_accuracy == pytest.approx(exact.val_accuracy, abs=0.05)


def test_the_reported_return_is_that_of_trading_the_kept_logits_by_the_rules():
    rules = TradingRules(5.0, margin=0.05, position="proportional", max_weight=0.5)
    settings = spec(trading=rules)
    run = finished(TrainingRun(settings, DATA))
    trading = SimulatedTrading.of(DATA, settings.validation_rows, rules)
    series = trading.returns(run.validation_logits)
    assert run.outcome.simulated_return == total_return(series.net)
    assert series.turnover.max() > 0
    assert run.outcome.simulated_return != finished(TrainingRun(spec(), DATA)).outcome.simulated_return


def test_the_state_of_a_finished_run_reports_its_outcome_again():
    run = finished(TrainingRun(spec(epochs=2), DATA))
    again = TrainingRun(spec(epochs=2), DATA)
    again.load_state_dict(unpack_tensors(pack_tensors(run.state_dict())))
    assert again.outcome == run.outcome
    assert again.advance() is None


def test_early_stopping_follows_a_hand_written_sequence():
    stopping = EarlyStopping(patience=3, min_delta=0.01)
    scores = [0.50, 0.52, 0.525, 0.53, 0.54, 0.541, 0.545, 0.549, 0.60]
    improved, stopped = [], []
    for epoch, score in enumerate(scores, 1):
        improved.append(stopping.update(epoch, score))
        stopped.append(stopping.should_stop(epoch))
        if stopped[-1]:
            break
    # .525 and .53 are within .01 of .52; .54 is not; the next three are within .01 of .54.
    assert improved == [True, True, False, False, True, False, False, False]
    assert stopped == [False] * 7 + [True]
    assert (stopping.best, stopping.best_epoch) == (0.54, 5)


def test_patience_counts_epochs_also_between_evaluations():
    stopping = EarlyStopping(patience=10, min_delta=0.0)
    stopping.update(5, 0.6)
    assert not stopping.should_stop(10)
    assert stopping.should_stop(15)


def test_stopping_restores_the_best_weights():
    run = finished(TrainingRun(spec(epochs=60, patience=3), DATA))
    assert run.outcome.state == "stopped"
    assert run.outcome.epochs - run.outcome.best_epoch == 3
    best = next(r for r in run.history if r.epoch == run.outcome.best_epoch)
    assert run.outcome.val_accuracy == best.val_accuracy
    again = run.predict(run.spec.validation_rows)
    assert (again.argmax(1).numpy() == DATA.y[run.spec.validation_rows]).mean() == pytest.approx(best.val_accuracy)


def test_evaluation_happens_at_its_frequency_and_at_the_end():
    run = finished(TrainingRun(spec(epochs=7, evaluation_frequency=3), DATA))
    assert [r.epoch for r in run.history if r.val_accuracy is not None] == [3, 6, 7]


def test_a_diverging_run_fails_with_the_epoch_and_is_not_ranked():
    run = finished(
        TrainingRun(
            spec(hyperparameters={"learning_rate": 10.0, "optimizer": "sgd", "gradient_clip": 0.0, "depth": 6}), DATA
        )
    )
    assert run.outcome.state == "failed"
    assert run.outcome.failure.startswith("diverged in epoch")
    assert run.outcome.val_accuracy is None
    assert run.outcome.epochs >= 1


def test_a_run_ends_after_its_allowed_time():
    run = TrainingRun(spec(epochs=1000, max_duration_s=0.2), DATA)
    finished(run)
    assert run.outcome.failure == "stopped by --max-trial-time 0.2s"
    assert run.outcome.epochs < 1000


class _HungryModel(nn.Module):
    """A linear model that runs out of memory above 10 rows, as a GPU would."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)
        self.sizes = []

    def forward(self, x):
        if self.training and len(x) > 10:
            raise torch.OutOfMemoryError("too many rows")
        self.sizes.append(len(x))
        return self.linear(x)


def hungry(hyperparameters, n_features, n_classes, window):
    return _HungryModel(n_features, n_classes)


def plain(hyperparameters, n_features, n_classes, window):
    return nn.Linear(n_features, n_classes)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_step(class_weights):
    here = __name__
    values = {"batch_size": 64, "class_weights": class_weights, "label_smoothing": 0.05}
    small = finished(
        TrainingRun(
            spec(epochs=3, factories={"own": f"{here}:hungry"}, hyperparameters=values | {"family": "own"}), DATA
        )
    )
    whole = finished(
        TrainingRun(
            spec(epochs=3, factories={"own": f"{here}:plain"}, hyperparameters=values | {"family": "own"}), DATA
        )
    )
    assert small.micro_batch == 8
    assert torch.allclose(small.validation_logits, whole.validation_logits, atol=1e-5)


def test_windows_read_the_rows_before():
    run = TrainingRun(spec(hyperparameters={"family": "gru", "window": 3}), DATA)
    rows = torch.tensor([20, 31])
    windows = run.gather(rows)
    assert windows.shape == (2, 3, F)
    assert torch.equal(windows[1], run.inputs[29:32])


def test_class_weights_balance_the_loss():
    run = TrainingRun(spec(hyperparameters={"class_weights": "balanced"}), DATA)
    counts = np.bincount(DATA.y[run.spec.train_rows])
    assert np.allclose(run.class_weights.numpy() * counts, counts.sum() / 2)


def test_pooled_dropout_has_the_statistics_of_dropout():
    torch.manual_seed(0)
    layer, p, shape = PooledDropout(0.3), 0.3, (256, 128)
    masks = []
    for _ in range(60):
        layer.redraw()  # masks of one pool overlap; those of different pools are independent
        masks.append(layer(torch.ones(shape)))
    stack = torch.stack(masks)
    kept = (stack > 0).double()
    n = stack.numel()
    assert stack.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)])
    assert abs(kept.mean() - (1 - p)) < 5 * (p * (1 - p) / n) ** 0.5
    variance = stack.double().var()
    assert variance == pytest.approx(p / (1 - p), rel=0.01)
    centred = kept - kept.mean()
    for lag in (1, 16, 128):
        flat = centred.flatten(1)
        correlation = (flat[:, :-lag] * flat[:, lag:]).mean() / centred.pow(2).mean()
        assert abs(correlation) < 5 / n**0.5
    layer.eval()
    assert torch.equal(layer(torch.ones(3)), torch.ones(3))


def test_masks_of_every_size_fit_their_pool():
    torch.manual_seed(0)
    layer = PooledDropout(0.5)
    for rows in (1, 300, 7, 5000, 64):
        assert layer(torch.ones(rows, 33)).shape == (rows, 33)


def test_masks_of_one_pool_begin_at_aligned_places_spread_over_all_of_it():
    torch.manual_seed(0)
    layer, size = PooledDropout(0.5), 256 * 128
    length = len(layer.pool(size, torch.float32))
    starts = [layer.start(use) for use in range(200)]
    assert all(start % 16 == 0 and 0 <= start <= length - size for start in starts)
    assert len(set(starts)) == 200
    gaps = np.diff([*sorted(starts), length - size])
    assert max(gaps) < 3 * (length - size) / 200


def test_batches_cover_every_row_once_and_merge_a_last_single_row():
    for n in range(1, 40):
        for size in range(1, 12):
            bounds = batch_bounds(n, size)
            assert [i for a, b in bounds for i in range(a, b)] == list(range(n))
            assert n == 1 or size == 1 or all(b - a > 1 for a, b in bounds)


def test_the_learning_rate_warms_up_and_falls():
    shares = [learning_rate_share(s, 100, 10, "cosine") for s in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == pytest.approx(1.0)
    assert shares[-1] < 0.02
    assert all(a >= b for a, b in itertools.pairwise(shares[10:]))
    assert learning_rate_share(50, 100, 0, "constant") == 1.0


def test_preprocessing_knows_training_rows_alone():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((50, 3)).astype(np.float32)
    x[3, 0] = np.nan
    x[:, 2] = generator.integers(0, 3, 50)
    categorical = np.array([False, False, True])
    train = x[:30].copy()
    train[train[:, 2] == 2, 2] = 1
    fitted = Preprocessor.fit(train, categorical)
    assert Preprocessor.count_outputs(train, categorical) == fitted.n_outputs
    out = fitted.transform(x)
    assert out.shape == (50, 2 + 1 + 2)
    assert np.isfinite(out).all()
    assert out[:30, 0].mean() == pytest.approx(0, abs=1e-5)
    assert out[:, 2].tolist() == np.isnan(x[:, 0]).astype(float).tolist()
    assert out[x[:, 2] == 2][:, 3:].sum() == 0  # a category that training has not seen
    again = Preprocessor.from_state_dict(fitted.state_dict())
    assert np.array_equal(again.transform(x), out)


def test_an_unknown_family_names_the_known_ones():
    with pytest.raises(Exception, match="built in: mlp, resnet, tabm, gru, tcn, transformer"):
        build_model(Hyperparameters(family="nothing"), 3, 2, {})
