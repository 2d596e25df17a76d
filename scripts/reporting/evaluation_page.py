"""What the evaluation report says: what the model is worth on the sealed test set, beside rules that need no model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.reporting.comparison_section import comparison_section
from scripts.reporting.decision_sections import decision_sections, return_part_tables
from scripts.reporting.ensemble_section import ensemble_section
from scripts.reporting.evaluation_figures import equity_figure, group_figure, reliability_figure
from scripts.reporting.figures import Figure, wilson, words
from scripts.reporting.latency_section import latency_section
from scripts.reporting.page import (
    Cell,
    Column,
    Number,
    Page,
    Section,
    Table,
    TableRow,
    interval,
    number,
    number_cell,
    percent,
    percent_cell,
    plain,
    points,
    present,
    provenance,
    value_cell,
)

_TONES = {"skill": "good", "no skill": "bad", "worse than naive": "bad"}
_RETURNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "gross": ("return before costs", percent),
    "net": ("return after costs", percent),
    "buy_and_hold": ("return of buy and hold", percent),
    "naive": ("return of the best naive rule after costs", percent),
    "probabilistic_sharpe": ("probability that the Sharpe ratio is above zero", percent),
    "mean_net": ("mean return per date after costs", functools.partial(percent, digits=3)),
    "mean_excess": ("mean return per date above buy and hold", functools.partial(percent, digits=3)),
    "cost_bps": ("cost per unit of turnover (basis points)", number),
    "sharpe": ("Sharpe ratio after costs (yearly)", number),
    "sharpe_se": ("standard error of the Sharpe ratio", number),
    "max_drawdown": ("largest drawdown", percent),
    "turnover": ("mean change of position per date (1 = the whole capital)", number),
    "break_even_cost_bps": ("cost at which nothing is left (basis points)", number),
    "hit_rate": ("positions that earned something", percent),
    "exposure": ("rows with a position", percent),
    "n_dates": ("dates", number),
}
_MAX_PARTS = 60


@dataclass(frozen=True)
class EvaluationReport:
    """What the evaluation report is made of.

    Attributes
    ----------
    evaluation : mapping
        Content of evaluation_results.json. Beside the fixed fields: `references` (name -> accuracy, or a mapping with
        `accuracy` and `accuracy_ci95`), `by_group` and `by_year` (name -> accuracy, or a mapping with `accuracy`,
        `n_rows`, `accuracy_ci95`; a list of such mappings with `group` or `year` does too), `notes` (list of str).
    dates : sequence of str
        ISO dates of the equity curves.
    curves : mapping of str to sequence of float
        Capital on each date as a multiple of the initial one, the model first; each as long as `dates`.
    reliability : sequence of mappings
        Bins of the calibration: `confidence`, `accuracy`, `count`.
    confusion : sequence of sequences of int
        Rows of the test set by true class (rows) and predicted class (columns).
    class_names : sequence of str
        Names of the classes in the order of `confusion`.
    warnings : sequence of str
        What the reader must know before believing anything.
    """

    evaluation: Mapping[str, Any]
    dates: Sequence[str] = ()
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    reliability: Sequence[Mapping[str, Any]] = ()
    confusion: Sequence[Sequence[int]] = ()
    class_names: Sequence[str] = ()
    warnings: Sequence[str] = ()


def evaluation_page(content: EvaluationReport) -> Page:
    """Put the evaluation report together; whatever is missing is left out."""
    e = plain(content.evaluation)
    naive = max((v for v in (e.get("naive") or {}).values() if v is not None), default=None)
    equity = equity_figure([str(d) for d in content.dates], content.curves)
    years, groups = _parts(e.get("by_year"), "year"), _parts(e.get("by_group"), "group")
    sections = (
        comparison_section(e),
        ensemble_section(e),
        Section("Simulated returns", _return_notes(e), _return_tables(e), present([equity])),
        Section("Probabilities", (), _probability_tables(e), present([reliability_figure(plain(content.reliability))])),
        Section("Which classes are confused", (), _confusion_tables(plain(content.confusion), content.class_names)),
        Section("By year", (), _part_tables("year", years), present([_part_figure("by_year", "year", years, naive)])),
        Section(
            "By group", (), _part_tables("group", groups), present([_part_figure("by_group", "group", groups, naive)])
        ),
        *decision_sections(e),
        latency_section(e),
        Section("Openings of the sealed test set", _opening_notes(e)),
        Section("Notes", tuple(str(note) for note in e.get("notes") or ())),
    )
    where = "the sealed test set" if _kind(e) == "sealed" else "other data"
    return Page(
        title=f"What the model is worth: evaluation on {where}",
        verdict=verdict_sentence(e),
        tone=_TONES.get(str(e.get("verdict")), ""),
        warnings=tuple(str(w) for w in content.warnings),
        numbers=_numbers(e),
        sections=tuple(s for s in sections if s.paragraphs or s.figures or any(t.rows for t in s.tables)),
        footer=provenance(e),
    )


def _kind(e: Mapping[str, Any]) -> str:
    """Which rows were judged: those of the sealed test set, or others that the user named."""
    data = (e.get("opened") or {}).get("data", "sealed")
    return "sealed" if data == "sealed" else "other"


def _best_naive(e: Mapping[str, Any]) -> tuple[str, float] | None:
    known = [(name, value) for name, value in (e.get("naive") or {}).items() if value is not None]
    return max(known, key=lambda item: item[1]) if known else None


def verdict_sentence(e: Mapping[str, Any]) -> str:
    """The verdict of an evaluation with its uncertainty and what it is held beside, in words."""
    sentences = {
        "skill": "The model has skill",
        "no skill": "No skill could be shown",
        "worse than naive": "The model is worse than a naive rule",
    }
    text = sentences.get(str(e.get("verdict")), "The verdict is not recorded")
    text += (
        f": {percent(e.get('accuracy'))} of {number(e.get('n_rows'), ',')} {_kind(e)} rows right "
        f"(95 % interval {interval(e.get('accuracy_ci95'))})"
    )
    if (best := _best_naive(e)) is not None:
        text += f", against {percent(best[1])} for the best naive rule ({words(best[0])})"
    if e.get("skill") is not None:
        text += f"; the difference is {points(e['skill'])} (95 % interval {interval(e.get('skill_ci95'), signed=True)})"
    ceiling = e.get("ceiling")
    text += f"; the best possible is {percent(ceiling)}." if ceiling is not None else "."
    if versus := e.get("versus_reference"):
        worth = "Clearly" if versus["ci95"][0] > 0 else "Not clearly"
        bounds = interval(versus["ci95"], signed=True)
        text += f" {worth} better than {words(versus['name'])}: {points(versus['difference'])} (95 % {bounds})."
    return text


def _numbers(e: Mapping[str, Any]) -> tuple[Number, ...]:
    best = _best_naive(e)
    returns = e.get("returns") or {}
    numbers = [
        Number("Accuracy", percent(e.get("accuracy")), f"95 %: {interval(e.get('accuracy_ci95'))}"),
        Number("Best naive rule", percent(best[1] if best else None), words(best[0]) if best else "not recorded"),
        Number("Difference", points(e.get("skill")), f"95 %: {interval(e.get('skill_ci95'), signed=True)} points"),
        Number("Return after costs", percent(returns.get("net")), f"before costs {percent(returns.get('gross'))}"),
        Number("Epochs spent", number(e.get("epochs_spent_total"), ",d"), "over all phases and folds"),
    ]
    if e.get("imbalanced"):
        numbers[:0] = [
            Number("Balanced accuracy", percent(e.get("balanced_accuracy")), "mean over the classes"),
            Number("MCC", number(e.get("mcc"), ".3f"), "0 is chance, 1 is perfect"),
            Number("Average precision", number(e.get("average_precision"), ".3f"), "the rarer class's share is chance"),
        ]
    if e.get("first_date") is not None:
        rows = f"{e['first_date']} to {e.get('last_date')}"
        numbers.insert(0, Number(f"{_kind(e).capitalize()} rows", number(e.get("n_rows"), ",d"), rows))
    return tuple(numbers)


def _return_notes(e: Mapping[str, Any]) -> tuple[str, ...]:
    returns = e.get("returns") or {}
    if not returns:
        return ()
    text = "Each prediction is turned into a position and filled at the configured price; costs are paid on turnover."
    if (bounds := returns.get("mean_net_ci95")) is not None:
        text += (
            f" The mean net return per date lies between {percent(bounds[0], 3)} and {percent(bounds[1], 3)} (95 %), "
            f"what it earns above buy and hold between {percent(returns['mean_excess_ci95'][0], 3)} and "
            f"{percent(returns['mean_excess_ci95'][1], 3)}."
        )
    if returns.get("break_even_cost_bps") is not None:
        text += f" Nothing would be left at a cost of {number(returns['break_even_cost_bps'], '.1f')} basis points."
    return (text,)


def _return_tables(e: Mapping[str, Any]) -> tuple[Table, ...]:
    rows = []
    for name, value in (e.get("returns") or {}).items():
        title, write = _RETURNS.get(name, (words(name), number))
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(value, Mapping | list):
            rows.append(TableRow((Cell(title), Cell(write(value), value) if is_number else value_cell(value))))
    columns = (Column("quantity", numeric=False), Column("value"))
    whole = Table("Simulated returns over the test period.", columns, tuple(rows))
    return (whole, *return_part_tables(e.get("returns") or {}))


def _probability_tables(e: Mapping[str, Any]) -> tuple[Table, ...]:
    known = (
        ("auc", "area under the ROC curve", "0.5 is chance, 1 is perfect"),
        ("average_precision", "average precision", "the share of the rarer class is chance, 1 is perfect"),
        ("log_loss", "log loss (nats)", "lower is better; ln 2 = 0.693 is a coin for two classes"),
        ("log_loss_skill", "log loss below that of the classes' shares (nats)", "0 is no better than the shares"),
        ("balanced_accuracy", "balanced accuracy", "mean over the classes; 1 / number of classes is chance"),
        ("mcc", "Matthews correlation coefficient", "0 is chance, 1 is perfect"),
        ("brier", "Brier score", "lower is better; 0 is perfect"),
        ("ece", "expected calibration error", "mean gap between probability and frequency; 0 is perfect"),
    )
    rows = tuple(
        TableRow((Cell(title), number_cell(e[name]), Cell(_plain_bounds(e.get(f"{name}_ci95"))), Cell(reading)))
        for name, title, reading in known
        if e.get(name) is not None
    )
    columns = (
        Column("measure", numeric=False),
        Column("value"),
        Column("95 % interval", numeric=False),
        Column("how to read it", numeric=False),
    )
    return (Table("Quality of the probabilities and of the answers, beside accuracy.", columns, rows),)


def _plain_bounds(bounds: Sequence[float] | None) -> str:
    return f"{bounds[0]:.4f} to {bounds[1]:.4f}" if bounds else "-"


def _confusion_tables(confusion: Sequence[Sequence[int]], class_names: Sequence[str]) -> tuple[Table, ...]:
    if not confusion:
        return ()
    names = [str(n) for n in class_names] or [f"class {k}" for k in range(len(confusion))]
    rows = []
    for name, counts in zip(names, confusion, strict=True):
        total = sum(counts) or 1
        shares = [count / total for count in counts]
        cells = (Cell(f"{c:,} ({s:.0%})", c, round(s, 3)) for c, s in zip(counts, shares, strict=True))
        rows.append(TableRow((Cell(name), *cells, Cell(f"{sum(counts):,}", sum(counts)))))
    columns = (
        Column("truth", numeric=False),
        *(Column(f"predicted {name}") for name in names),
        Column("rows"),
    )
    caption = "Rows by true and predicted class, with the share of the true class; the darker, the larger the share."
    return (Table(caption, columns, tuple(rows)),)


def _parts(value: Any, key: str) -> list[dict[str, Any]]:
    """Parts of the test set as rows with name, accuracy, n_rows, low and high, in the order given."""
    if isinstance(value, Mapping):
        value = [{key: name, **(v if isinstance(v, Mapping) else {"accuracy": v})} for name, v in value.items()]
    rows = []
    for part in value or ():
        accuracy, n = part.get("accuracy"), part.get("n_rows")
        if accuracy is None:
            continue
        bounds = part.get("accuracy_ci95")
        limits = {"low": bounds[0], "high": bounds[1]} if bounds else wilson(accuracy, n)
        rows.append({"name": str(part.get(key, part.get("name", "?"))), "accuracy": accuracy, "n_rows": n} | limits)
    return rows


def _part_figure(name: str, kind: str, rows: Sequence[Mapping[str, Any]], naive: float | None) -> Figure | None:
    shown = list(rows)
    title = f"Accuracy by {kind}"
    if len(shown) > _MAX_PARTS:
        shown = sorted(shown, key=lambda r: -(r["n_rows"] or 0))[:_MAX_PARTS]
        title += f" ({_MAX_PARTS} largest of {len(rows)})"
    return group_figure(name, title, shown, naive)


def _part_tables(kind: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    if not rows:
        return ()
    columns = (Column(kind, numeric=False), Column("rows"), Column("accuracy"), Column("95 % interval"))
    body = tuple(
        TableRow(
            (
                Cell(r["name"]),
                number_cell(r["n_rows"], ",d"),
                percent_cell(r["accuracy"], 1),
                Cell(interval((r.get("low"), r.get("high"))), r.get("low")),  # type: ignore[arg-type]
            )
        )
        for r in rows
    )
    return (Table(f"Accuracy by {kind}; without an interval of their own, rows count as independent.", columns, body),)


def _opening_notes(e: Mapping[str, Any]) -> tuple[str, ...]:
    openings = e.get("test_openings")
    if openings is None:
        return ()
    count = len(openings) if isinstance(openings, list) else openings
    if count == 0:
        return ("The sealed test set has not been opened.",)
    if count == 1:
        return ("The sealed test set has been opened once.",)
    return (
        f"The sealed test set has been opened {count} times. If a choice was made after an earlier look, these numbers "
        "are too good: the more looks, the more likely one of them was lucky.",
    )
