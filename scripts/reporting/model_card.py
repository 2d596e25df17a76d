"""Model card as Markdown: purpose, origin, results and limits of a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import jinja2

from scripts.config.class_positions import in_words
from scripts.reporting.evaluation_page import sure_of_return, verdict_sentence
from scripts.reporting.figures import words
from scripts.reporting.page import interval, number, percent, points, provenance
from scripts.reporting.sections.returns import NOT_MODELLED
from scripts.reporting.sections.shared import milliseconds
from scripts.storage.durable_files import write_bytes
from scripts.storage.evaluation_record import Evaluation
from scripts.storage.model_record import FinalModelContent, MemberContent
from scripts.storage.printable import printable

_TEMPLATE = Path(__file__).with_name("model_card.md.j2")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&$])")
Row = tuple[str, str]

_PURPOSES = {
    "next_direction": "Predicts whether the price of a ticker will be higher one bar ahead.",
    "k_bar_direction": "Predicts whether the price of a ticker will be higher some bars ahead.",
    "triple_barrier": "Predicts which barrier around the close the price of a ticker will touch first, if any.",
    "volatility_regime": "Predicts whether the volatility of a ticker will be above its trailing median.",
    "column": "Predicts the class of rows of a table.",
}
_LIMITS = (
    "The interval of the verdict covers chance in the test rows, not a change of the market: it may "
    "behave differently in future.",
    f"Simulated returns do not model {NOT_MODELLED}.",
)


def write_model_card(path: Path, model: FinalModelContent, n_parameters: Sequence[int], evaluation: Evaluation) -> None:
    """Write the model card.

    Parameters
    ----------
    n_parameters : sequence of int
        Number of parameters of each member of the model.

    Raises
    ------
    EnvironmentFailed
        The disk is full or the folder is not writable.
    """
    write_bytes(path, model_card(model, n_parameters, evaluation).encode(errors="backslashreplace"))


def model_card(m: FinalModelContent, n_parameters: Sequence[int], e: Evaluation) -> str:
    """Return the model card as Markdown; parameters as `write_model_card`."""
    environment = jinja2.Environment(
        autoescape=False,  # Markdown is not HTML: every value is escaped by `finalize`
        finalize=escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    config = m.experiment.data
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        family=_families(m),
        label=words(config.label) if config.label != "column" else f"column {config.label_column}",
        verdict=verdict_sentence(e),
        warnings=e.warnings,
        purpose=_PURPOSES[config.label],
        decision=_decision(m),
        data=_data(m, e),
        notes=e.notes,
        model=_model(m.members, n_parameters),
        validation=_validation(m),
        selection=m.selection.reason,
        measures=_measures(e),
        baselines=_baselines(e),
        limits=[*_LIMITS, *_own_limits(m, e)],
        cost=_cost(m, e),
        versions=provenance(m),
    )


def escaped(value: Any) -> str:
    """Escape text for Markdown: on one line, without markup and HTML."""
    return (
        _SPECIAL.sub(r"\\\1", " ".join(printable(str(value), lines=True).split()))
        .replace(r"\<", "&lt;")
        .replace(r"\>", "&gt;")
    )


def _decision(m: FinalModelContent) -> str:
    decision = m.selection.decision
    if decision is None:
        return "the most probable class"
    threshold = (
        "" if decision.threshold is None else f"{m.classes[1]} above a probability of {decision.threshold:.3g}, "
    )
    return f"{threshold}abstains unless it leads by more than {decision.margin:.3g} ({decision.reason})"


def _data(m: FinalModelContent, e: Evaluation) -> list[Row]:
    config, span, features = m.experiment.data, m.trained_on, m.features
    rows = [
        ("source", config.source + (f", {PurePath(config.path).name}" if config.path else "")),
        (
            "label",
            f"{words(config.label)}, {config.horizon} bars ahead"
            + (", from the next open" if config.label_price == "next_open" else "")
            if config.label != "column"
            else str(config.label_column),
        ),
        ("classes (share in training)", _shares(m)),
        *_positions(m),
        (
            "features",
            f"{len(features)}: {', '.join(features[:40])}" + (", ..." if len(features) > 40 else ""),
        ),
    ]
    if span:
        dates = f" from {span.first_date} to {span.last_date}" if span.first_date else ""
        rows.append(("trained on", f"{span.n_rows:,} rows of {span.n_tickers} tickers or groups{dates}"))
    dates = f" from {e.first_date} to {e.last_date}" if e.first_date else ""
    kind = "sealed rows" if e.opened.data == "sealed" else "rows of another file"
    return [*rows, ("tested on", f"{number(e.n_rows, ',')} {kind}{dates}")]


def _positions(m: FinalModelContent) -> list[Row]:
    held = m.class_positions
    return [("positions of the classes", in_words(m.classes, held))] if held else []


def _shares(m: FinalModelContent) -> str:
    pairs = list(zip(m.classes, m.class_shares, strict=True))
    return ", ".join(f"{name} ({percent(share)})" for name, share in pairs[:20]) + (", ..." if len(pairs) > 20 else "")


def _model(members: Sequence[MemberContent], n_parameters: Sequence[int]) -> list[Row]:
    n_networks = sum(len(member.weights) for member in members)
    networks = f"{n_networks}, with different seeds; the model is the mean of their logits"
    if len(members) > 1:
        networks = (
            f"{n_networks} of {len(members)} configurations, whose calibrated probabilities are averaged by weight"
        )
    rows = [("networks", networks), ("parameters", f"{sum(n_parameters):,} in total")]
    rows += [("not as searched", changes) for member in members if (changes := _replaced(member))]
    if len(members) == 1:
        return rows + [(words(name), str(value)) for name, value in members[0].hyperparameters.model_dump().items()]
    return rows + [_member(member) for member in members]


def _replaced(member: MemberContent) -> str:
    """Hyperparameters that phase 3 replaced; empty in files of earlier versions, which do not record them."""
    replaced = member.replaced.items()
    return ", ".join(f"{words(name)} {now} (searched: {before})" for name, (before, now) in replaced)


def _member(member: MemberContent) -> Row:
    values = ", ".join(f"{words(name)} {value}" for name, value in member.hyperparameters.model_dump().items())
    return f"trial {member.trial_number}, weight {percent(member.weight, 0)}", values


def _families(m: FinalModelContent) -> str:
    families = dict.fromkeys(member.hyperparameters.family for member in m.members)
    return " and ".join(families)


def _validation(m: FinalModelContent) -> str:
    data, extended = m.experiment.data, m.experiment.extended
    dated = data.source != "table" or data.time_column is not None
    purged = f", purged, with an embargo of {data.embargo} dates" if dated else ""
    text = f"{extended.cross_validation_folds} folds ({words(extended.cv)}{purged}) chose the configuration"
    text += f"; the share of {data.test_fraction:.0%} of the rows was sealed until the evaluation"
    skill, error = m.selection.skill, m.selection.skill_se
    return text + (
        f"; out of fold it was {points(skill)} relative to the best naive rule (s.e. {points(error, signed=False)})."
        if skill is not None
        else "."
    )


def _measures(e: Evaluation) -> list[tuple[str, str, str]]:
    rows = [
        ("accuracy", percent(e.accuracy), interval(e.accuracy_ci95)),
        (
            f"difference to the best naive rule ({words(e.best_naive)})",
            points(e.skill),
            interval(e.skill_ci95, signed=True),
        ),
        ("log loss (nats)", number(e.log_loss, ".4f"), ""),
        ("expected calibration error", number(e.ece, ".4f"), ""),
    ]
    versus = e.versus_reference
    rows.append((f"difference to {words(versus.name)}", points(versus.difference), interval(versus.ci95, signed=True)))
    if (returns := e.returns) is not None:
        cost = f"return after costs of {number(returns.cost_bps)} basis points"
        rows += [(cost, percent(returns.net), sure_of_return(returns))]
        rows += [("buy and hold", percent(returns.buy_and_hold), "")]
        if returns.sharpe is not None and returns.periods_per_year:
            year = f"{returns.periods_per_year:g} dates per year, from {returns.periods_per_year_from}"
            error = f", standard error {number(returns.sharpe_se)}" if returns.sharpe_se is not None else ""
            rows += [(f"Sharpe ratio after costs (annualised; {year})", number(returns.sharpe) + error, "")]
    return rows


def _baselines(e: Evaluation) -> list[Row]:
    rows = [(words(name), percent(value)) for name, value in (*e.naive.items(), *e.references.items())]
    return rows + ([("best possible", percent(e.ceiling))] if e.ceiling is not None else [])


def _own_limits(m: FinalModelContent, e: Evaluation) -> list[str]:
    limits = []
    if e.by_seed:
        low, high = percent(min(e.by_seed)), percent(max(e.by_seed))
        limits.append(f"With a single seed it reaches {low} to {high}: this is the effect of the seed.")
    if e.decay is not None:
        limits.append(f"Skill decay: {e.decay.advice}.")
    if e.test_openings > 1:
        often = e.opened_in_words
        limits.append(f"The sealed rows have been opened {often}; each opening is a further chance of a lucky result.")
    if m.reference is None:
        limits.append("The model file has no distribution of its training data, so drift cannot be assessed with it.")
    return limits


def _cost(m: FinalModelContent, e: Evaluation) -> list[Row]:
    rows = [(f"epochs of {words(name)}", f"{value:,}") for name, value in m.epochs_spent.items()]
    rows.append(("epochs in total", f"{sum(m.epochs_spent.values()):,}"))
    calls = {} if e.latency is None else e.latency.calls
    return rows + [
        (f"latency of {name}", f"median {milliseconds(call.p50_s)}, 99% below {milliseconds(call.p99_s)}")
        for name, call in calls.items()
    ]
