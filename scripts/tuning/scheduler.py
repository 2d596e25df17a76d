"""Scheduler of rungs with pause and promotion: it resumes runs, starts trials and repeats leaders.

Terms: a *rung* is a number of epochs at which every run pauses; a *promotion* carries a paused run on to the next one;
a *replicate* is a run of a leading trial on another split; a trial *starts* on split 0 and pauses at the first rung.
One in `reduction` of the runs at a rung is promoted, as in asynchronous successive halving (Li et al. 2020), but by the
improvement that the curve model expects of them at the last rung, and resumed, never restarted. By improvement
and not by score: the early scores of a slow learner are poor, and leave open how good its last one will be.

Every decision is a function of the seed, the configuration and the journal, in the order in which the work was handed
out: decision k knows the results of the decisions 0 to k - lag, however late or early they came in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.config.search_space import SearchSpace, Values
from scripts.random_keys import numpy_generator
from scripts.tuning.acquisition import Posterior, propose_points
from scripts.tuning.curve_model import CurveModel, default_parameters, fit_parameters
from scripts.tuning.decisions import Action, Continue, Entry, Replicate, Result, Start, Stop
from scripts.tuning.encoding import UnitCube, stacked
from scripts.tuning.learning_curves import LearningCurves
from scripts.tuning.stages import Stage, draw

_REFIT_GROWTH = 1.15  # the kernel parameters are fitted again once there are so many times as many scores
_N_LEADERS = 6
_N_LATEST = 64
# The model is refitted, and proposes again, when the number of scores has grown by this factor, up to 300 at once.
_REFRESH_GROWTH = 1.0 / 300.0
_MIN_GAIN, _MAX_IDLE = 0.05, 6


@dataclass(frozen=True)
class RungConfig:
    """Strategy for spending the epochs of a search with rungs.

    Attributes
    ----------
    rungs : tuple of int
        Epochs at which runs pause, ascending; the last is the most that a run gets.
    reduction : float
        One in so many runs at a rung is promoted.
    n_initial : int
        Random trials before the model proposes; fewer if there is a portfolio to start from.
    random_share : float
        Share of random trials after that.
    fine_tune_every : int
        Interval of the proposals of the model that are close to the leaders.
    replicate_share : float
        Share of the epochs that repeats leaders on other splits.
    replicate_epochs : int
        Epochs of a replicate; one of `rungs`.
    n_splits : int
        Splits there are, split 0 included.
    max_trials, max_epochs : int
        The search ends when either is reached.
    stop_auto : bool
        The search also ends once the model has expected next to nothing of several proposals in a row.
    lag : int
        Decision k sees the results of decisions 0 to k - lag: same search for 1 to `lag` workers.
    """

    rungs: tuple[int, ...] = (4, 8, 16, 32, 50)
    reduction: float = 2.0
    n_initial: int = 8
    random_share: float = 0.1
    fine_tune_every: int = 3
    replicate_share: float = 0.1
    replicate_epochs: int = 16
    n_splits: int = 5
    max_trials: int = 10**9
    max_epochs: int = 10**9
    stop_auto: bool = False
    lag: int = 1


class Scheduler:
    """Sequential decisions of a search; its state is determined by the journal.

    Parameters
    ----------
    portfolio : sequence of mappings
        Configurations that are tried first.
    """

    def __init__(self, space: SearchSpace, config: RungConfig, seed: int, portfolio: Sequence[Values] = ()) -> None:
        self.space, self.config, self.seed = space, config, seed
        self.portfolio = list(portfolio)
        self.cube = UnitCube(space)
        self.curves = LearningCurves(config.rungs, self.cube)
        self.actions: list[Action] = []  # all decisions so far, in their order
        self._results: list[Result | None] = []
        self._n_visible = 0
        self._n_trials = 0
        self._n_idle = 0  # Bayesian proposals in a row that promised next to nothing beyond the noise
        self._n_modelled = 0  # trials that the model proposed
        self._epochs_planned = 0  # of all decisions, as if none ended early
        self._epochs_replicated = 0
        self._target: dict[tuple[int, int], int] = {}  # epochs that each run was last sent to
        self._n_sent = [0] * len(config.rungs)  # runs of split 0 that were sent to each rung
        self._paused: list[dict[int, None]] = [{} for _ in config.rungs]  # trials that wait at each rung
        self._fit_rows = 0  # scores that the kernel parameters were last fitted to
        self._logs: np.ndarray | None = None
        self._known_of = (0, 0)  # visible scores and trials started at the last fit of the model
        self._n_proposed = {True: 0, False: 0}  # since then, around the leaders or anywhere
        self._knowledge: Posterior | None = None
        self._batches: dict[bool, list[tuple[np.ndarray, float]]] = {}

    # --- the journal ------------------------------------------------------------------------------------------------

    def replay(self, entries: Iterable[Entry]) -> None:
        """Replay earlier decisions with their results."""
        for entry in entries:
            self._see()
            self._submit(entry.action)
            if entry.result is not None:
                self.record(len(self.actions) - 1, entry.result)

    def record(self, number: int, result: Result) -> None:
        """The result of decision `number`."""
        self._results[number] = result

    def next_action(self) -> Action | Stop | None:
        """The next decision; None while it must wait for a result that it depends on."""
        if not self._see():
            return None
        action = self._decide()
        if not isinstance(action, Stop):
            self._submit(action)
        return action

    def ranking(self) -> list[int]:
        """Trials that the model knows, the best first, by the score expected at the last rung on a split like any."""
        if not self.curves.n_rows:
            return []
        return [int(trial) for trial in self._fitted().best_first]

    def conclude(self) -> None:
        """Read all results after the last decision."""
        self._take_in(len(self.actions))
        self._refresh()

    def _see(self) -> bool:
        """Read the results that the next decision may use; return False if one is missing."""
        # Results after that are ignored even if they are there: decisions must not depend on the speed of workers
        # (docs/log.md, 2026-11-24, "Proposals see only the results").
        complete = self._take_in(len(self.actions) - self.config.lag + 1)
        if self.curves.n_rows >= self._fit_rows * _REFIT_GROWTH + 3:
            self._fit_rows, self._logs = self.curves.n_rows, None
        rows, trials = self._known_of
        if self.curves.n_rows - rows > rows * _REFRESH_GROWTH or self._n_trials - trials > trials * _REFRESH_GROWTH:
            self._refresh()
        return complete

    def _refresh(self) -> None:
        """Make the visible results available to all further decisions."""
        self._known_of = (self.curves.n_rows, self._n_trials)
        self._n_proposed = {True: 0, False: 0}
        self._knowledge = None
        self._batches = {}

    def _take_in(self, n: int) -> bool:
        """Read the results of the first `n` decisions; return False if one is missing."""
        while self._n_visible < n:
            result = self._results[self._n_visible]
            if result is None:
                return False
            action = self.actions[self._n_visible]
            self.curves.add_result(action.trial, action.split, result)
            run = self.curves.run(action.trial, action.split)
            # A run that stopped early gives its other epochs back to the budget.
            short = action.epochs - run.epochs
            if run.ended and short > 0:
                self._epochs_planned -= short
            if action.split == 0 and not run.ended and run.rung < len(self.config.rungs) - 1:
                self._paused[run.rung][action.trial] = None
            self._n_visible += 1
        return True

    def _submit(self, action: Action) -> None:
        """Note that a decision was made."""
        self.actions.append(action)
        self._results.append(None)
        key = (action.trial, action.split)
        new = action.epochs - self._target.get(key, 0)
        self._epochs_planned += new
        self._target[key] = action.epochs
        if isinstance(action, Start):
            self._n_trials += 1
            self._n_modelled += action.stage != "random"
            if action.stage != "random":
                self._n_proposed[action.stage == "fine_tune"] += 1
            if action.stage == "bayesian" and action.gain is not None:
                self._n_idle = self._n_idle + 1 if action.gain < _MIN_GAIN else 0
            self.curves.add_trial(self.cube.point(action.values))
        if isinstance(action, Replicate):
            self._epochs_replicated += new
        if action.split == 0:
            rung = self.config.rungs.index(action.epochs)
            self._n_sent[rung] += 1
            self._paused[rung - 1].pop(action.trial, None)

    # --- decisions --------------------------------------------------------------------------------------------------

    def _decide(self) -> Action | Stop:
        if self._epochs_planned >= self.config.max_epochs:
            return Stop(f"the budget of {self.config.max_epochs} epochs is spent")
        if self._n_trials < self._n_first():
            return self._start_random()
        if self.config.stop_auto and self._n_idle >= _MAX_IDLE:
            return Stop(f"the last {_MAX_IDLE} proposals promised less than {_MIN_GAIN:g} of the noise between splits")
        promotion = self._promotion() or self._replicate()
        if promotion is not None:
            return promotion
        if self._n_trials < self.config.max_trials:
            return self._start()
        return self._last_promotion() or Stop(f"all {self.config.max_trials} trials were tried")

    def _n_first(self) -> int:
        """Trials that start before anything else."""
        return min(self.config.max_trials, len(self.portfolio) or self.config.n_initial)

    def _promotion(self) -> Continue | None:
        """Return the most promising paused run at the highest rung with too few promotions."""
        for rung in range(len(self.config.rungs) - 2, -1, -1):
            owed = int(self._n_sent[rung] / self.config.reduction) - self._n_sent[rung + 1]
            if owed > 0 and self._paused[rung]:
                return self._promote(rung)
        return None

    def _last_promotion(self) -> Continue | None:
        """Return the next paused run to resume once all trials have started, from the highest rung down."""
        for rung in range(len(self.config.rungs) - 2, -1, -1):
            if self._paused[rung] and self._n_sent[rung + 1] * self.config.reduction < self._n_sent[rung]:
                return self._promote(rung)
        return None

    def _promote(self, rung: int) -> Continue | None:
        paused = self._paused[rung]
        trial = self._fitted().most_promising(paused)
        return Continue(next(iter(paused)) if trial is None else trial, 0, self.config.rungs[rung + 1])

    def _replicate(self) -> Replicate | None:
        """The leader among the fully trained on its next split, while replicates have less than their share.

        Only a run at the last rung is replicated. With the default patience of 5 epochs and a last rung of 50, runs end
        before it, so replicates need other rungs or another patience.
        """
        if self._epochs_replicated >= self.config.replicate_share * self._epochs_planned:
            return None
        if self._n_sent[-1] == 0:
            return None
        for trial in self.ranking():
            run = self.curves.runs.get((trial, 0))
            if run is None or run.rung < len(self.config.rungs) - 1 or not np.isfinite(run.best):
                continue
            for split in range(1, self.config.n_splits):
                if (trial, split) not in self._target:
                    return Replicate(trial, split, self.config.replicate_epochs)
        return None

    def _start(self) -> Start:
        # Keyed by the trial, not one stream for the search: a resumed search draws the same without replaying draws.
        generator = numpy_generator(self.seed, "trial", self._n_trials, "who")
        usable = self.curves.n_rows > 0 and len(self.cube) > 0
        if not usable or generator.uniform() < self.config.random_share:
            return self._start_random()
        stage: Stage = "fine_tune" if (self._n_modelled + 1) % self.config.fine_tune_every == 0 else "bayesian"
        point, gain = self._proposal(stage == "fine_tune")
        return Start(self._n_trials, stage, self.cube.values(point), self.config.rungs[0], gain)

    def _start_random(self) -> Start:
        number = self._n_trials
        values = dict(self.portfolio[number]) if number < len(self.portfolio) else draw(self.space, self.seed, number)
        return Start(number, "random", values, self.config.rungs[0])

    def _proposal(self, near_only: bool) -> tuple[np.ndarray, float]:
        """Return the point with the highest expected improvement, and the gain in noise units."""
        if near_only not in self._batches:
            self._batches[near_only] = self._proposals(near_only)
        return self._batches[near_only][self._n_proposed[near_only]]

    def _proposals(self, near_only: bool) -> list[tuple[np.ndarray, float]]:
        """Propose as many points as needed before the next fit of the model; one until there are many trials.

        Started runs count as continued as the model expects.
        """
        knowledge, (_, n_trials) = self._fitted(), self._known_of
        model, data = knowledge.model, knowledge.model.data
        finished = data.run[data.rung == len(self.config.rungs) - 1]
        unfinished = np.setdiff1d(data.run, finished)
        # Otherwise the uncertainty of unfinished runs would attract proposals to their neighbourhoods.
        if len(unfinished):
            model = model.fantasized(unfinished)
        # Of very many trials only those count that the model knows, and the latest.
        tried = np.union1d(knowledge.known, np.arange(max(0, n_trials - _N_LATEST), n_trials))
        proposals = propose_points(
            model,
            self.cube,
            leaders=stacked([self.curves.points[t] for t in knowledge.best_first[:_N_LEADERS]], len(self.cube)),
            known=stacked([self.curves.points[t] for t in tried], len(self.cube)),
            # A lead below the noise between splits is not a reason to search around the leaders once more.
            margin=0.0 if near_only else model.offset_sd,
            near_only=near_only,
            n=1 + int(n_trials * _REFRESH_GROWTH),
            generator=numpy_generator(self.seed, "trial", n_trials, "proposal"),
        )
        return [(point, gain / model.offset_sd) for point, gain in proposals]

    def _fitted(self) -> Posterior:
        """Return the posterior of the scores that the model was fitted to."""
        if self._knowledge is None:
            data, known = self.curves.observations(self._known_of[0])
            if self._logs is None:
                # To as many scores as at the decision that made the fit due, so that a replay fits the same parameters.
                fitted_to = self.curves.observations(self._fit_rows)[0] if self._fit_rows else None
                self._logs = default_parameters(data) if fitted_to is None else fit_parameters(fitted_to)
            model = CurveModel(data, self._logs)
            self._knowledge = Posterior(model, known, model.expected(data.inputs))
        return self._knowledge


def next_action(
    journal: Sequence[Entry], space: SearchSpace, config: RungConfig, seed: int, portfolio: Sequence[Values] = ()
) -> Action | Stop | None:
    """The decision that follows a journal; None while it must wait for a result that it depends on."""
    scheduler = Scheduler(space, config, seed, portfolio)
    scheduler.replay(journal)
    return scheduler.next_action()
