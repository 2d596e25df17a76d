"""Section of the evaluation report on simulated returns: equity and drawdown after costs, and other strategies."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from scripts.config.class_positions import in_words
from scripts.reporting.charts.returns import cost_figure, equity_figure
from scripts.reporting.figures import words
from scripts.reporting.page import (
    Cell,
    Column,
    Section,
    Table,
    TableRow,
    number,
    number_cell,
    percent,
    percent_cell,
    present,
    table,
    text_column,
    value_cell,
)
from scripts.storage.evaluation_record import Evaluation
from scripts.storage.trading_records import Book, ReturnPart, Returns

_RETURNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "gross": ("return before costs", percent),
    "net": ("return after costs", percent),
    "buy_and_hold": ("return of buy and hold after costs", percent),
    "equal_weight_rebalanced": ("return of equal weights, rebalanced, after costs", percent),
    "foresight_hit_rate": ("winning positions with perfect predictions", percent),
    "volatility": ("volatility after costs (annualised)", percent),
    "borrow_bps": ("annual cost of a short position (basis points)", number),
    "periods_per_year": ("dates per year", number),
    "n_unlabelled": ("traded rows without a label", number),
    "naive": ("return of the best naive rule after costs", percent),
    "probabilistic_sharpe": ("probability that the Sharpe ratio is above zero", percent),
    "mean_net": ("mean return per date after costs", functools.partial(percent, digits=3)),
    "mean_excess": ("mean return per date above buy and hold", functools.partial(percent, digits=3)),
    "cost_bps": ("cost per unit of turnover (basis points)", number),
    "sharpe": ("Sharpe ratio after costs (annualised)", number),
    "sharpe_se": ("standard error of the Sharpe ratio", number),
    "max_drawdown": ("largest drawdown", percent),
    "turnover": ("mean change of position per date (1 = the whole capital)", number),
    "break_even_cost_bps": ("break-even cost (basis points)", number),
    "hit_rate": ("winning positions", percent),
    "exposure": ("rows with a position", percent),
    "n_dates": ("dates", number),
    "fill": ("positions are filled at", str),
    "holding": ("a decision is held for", str),
    "periods_per_year_from": ("dates per year taken from", str),
}
_FILLS = {
    "next_open": "filled at the next open",
    "close_to_close": "filled at the close that decides",
}
_MAX_ROWS = 60  # of a table of parts
NOT_MODELLED = (
    "market impact, capacity, financing, interest on cash, dividends on short positions, availability of shorts, "
    "taxes, and tickers missing from the file (survivorship)"
)
_BOOKS = {
    "buy_and_hold": "buy and hold",
    "equal_weight_rebalanced": "equal weights, rebalanced",
    "naive": "best naive rule",
}


def returns_section(e: Evaluation, dates: Sequence[str], curves: Mapping[str, Sequence[float]]) -> Section:
    """Equity curves, returns at other costs, figures and parts; empty without returns."""
    title, returns = "Equity and drawdown after costs", e.returns
    if returns is None:
        return Section(title)
    figures = present([equity_figure(dates, curves), cost_figure(returns)])
    notes = (*_notes(returns), *_position_note(e.class_positions or {}))
    return Section(title, notes, _tables(returns), figures, figures_first=True)


def _notes(returns: Returns) -> tuple[str, ...]:
    price = _FILLS.get(returns.fill or "", "held for the row's forward return")
    text = f"Each prediction becomes a position, {price}, with costs on turnover."
    if (net := returns.mean_net_ci95) is not None and (excess := returns.mean_excess_ci95) is not None:
        text += (
            f" The mean net return per date is {percent(net[0], 3)} to {percent(net[1], 3)} (95%), "
            f"its excess over buy and hold {percent(excess[0], 3)} to {percent(excess[1], 3)}."
        )
    if returns.break_even_cost_bps is not None:
        text += f" The break-even cost is {number(returns.break_even_cost_bps, '.1f')} basis points."
    return (text, f"Not modelled: {NOT_MODELLED}.")


def _position_note(held: Mapping[str, float]) -> tuple[str, ...]:
    """The position of each class."""
    return (f"Positions of the classes: {in_words(list(held), list(held.values()))}.",) if held else ()


def _tables(returns: Returns) -> tuple[Table, ...]:
    rows = []
    for name, value in returns.body().items():
        title, write = _RETURNS.get(name, (words(name), number))
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(value, Mapping | list):
            rows.append(TableRow((Cell(title), Cell(write(value), value) if is_number else value_cell(value))))
    columns = (text_column("quantity"), Column("value"))
    whole = Table("Simulated returns over the test period.", columns, tuple(rows))
    parts = [_part_table("year", returns.by_year), _part_table("ticker", returns.by_group)]
    return (whole, *_beside_table(returns), *(table for table in parts if len(table.rows) > 1))


def _beside_table(returns: Returns) -> tuple[Table, ...]:
    """Return the strategies without a model; empty for results that lack them."""
    if not returns.beside:
        return ()
    books: dict[str, Returns | Book] = {"model": returns}
    books |= {_BOOKS.get(name, words(name)): book for name, book in returns.beside.items()}
    return (
        table(
            "The model compared with other strategies on the same dates, after costs.",
            books.items(),
            (text_column("strategy"), lambda named: named[0]),
            ("after costs", lambda named: percent_cell(named[1].net)),
            (Column("volatility", "annualised"), lambda named: percent_cell(named[1].volatility)),
            (Column("Sharpe ratio", "annualised"), lambda named: number_cell(named[1].sharpe, ".2f")),
            ("standard error", lambda named: number_cell(named[1].sharpe_se, ".2f")),
            ("largest drawdown", lambda named: percent_cell(named[1].max_drawdown)),
            (Column("turnover", "per date"), lambda named: number_cell(named[1].turnover, ".2f")),
        ),
    )


def _part_table(kind: str, parts: Mapping[str, ReturnPart]) -> Table:
    more = f" ({_MAX_ROWS} of {len(parts)})" if len(parts) > _MAX_ROWS else ""
    return table(
        f"Simulated returns by {kind}{more}; each part starts with a capital of 1.",
        list(parts.items())[:_MAX_ROWS],
        (text_column(kind), lambda named: named[0]),
        ("dates", lambda named: number_cell(named[1].n_dates, ",d")),
        ("before costs", lambda named: percent_cell(named[1].gross)),
        ("after costs", lambda named: percent_cell(named[1].net)),
        (Column("Sharpe ratio", "annualised"), lambda named: number_cell(named[1].sharpe, ".2f")),
        (Column("turnover", "per date"), lambda named: number_cell(named[1].turnover, ".2f")),
        ("hit rate", lambda named: percent_cell(named[1].hit_rate)),
    )
