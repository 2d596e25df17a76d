"""Charts of simulated returns: equity and drawdown after costs, and returns at other costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import altair as alt
import numpy as np

from scripts.reporting.figures import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    ChartedRow,
    Figure,
    Panel,
    Spec,
    chart,
    percent_tooltip,
    rule,
    specification,
    spread,
)
from scripts.storage.trading_records import Returns


def equity_figure(dates: Sequence[str], curves: Mapping[str, Sequence[float]]) -> Figure | None:
    """Equity after costs and drawdown of the model compared with strategies without predictions.

    Parameters
    ----------
    dates : sequence of str
        ISO dates.
    curves : mapping of str to sequence of float
        Name -> capital on each date as a multiple of the initial one, the model first.
    """
    if not dates or not curves:
        return None
    equity: list[ChartedRow] = []
    drawdown: list[ChartedRow] = []
    for name, series in curves.items():
        values = np.asarray(series, dtype=float)
        loss = values / np.maximum(1.0, np.maximum.accumulate(values)) - 1
        for k in spread(len(values)):
            at = {"date": str(dates[k]), "series": name}
            if math.isfinite(values[k]) and math.isfinite(loss[k]):
                equity.append(at | {"value": round(float(values[k]), 6)})
                drawdown.append(at | {"value": round(float(loss[k]), 6)})
    reading = (
        "First: growth of one unit of capital, after trading costs. Second: loss from the earlier peak. "
        "A model that only follows buy and hold has predicted nothing; a lead over a short period may "
        "be chance."
    )
    names = list(curves)
    panels = (
        Panel("equity", _time_chart(equity, names, "capital (initial = 1)", ".2f")),
        Panel("drawdown", _time_chart(drawdown, names, "drawdown", ".0%")),
    )
    return Figure("equity", "Simulated equity and drawdown", reading, panels)


def _time_chart(rows: list[ChartedRow], names: Sequence[str], title: str, form: str) -> Spec:
    colours = alt.Scale(domain=list(names), range=[BLUE, ORANGE, GREEN, PURPLE][: len(names)])
    dashes = alt.Scale(domain=list(names), range=[[1, 0], [5, 2], [2, 2], [8, 3]][: len(names)])
    lines = (
        chart(rows)
        .mark_line()
        .encode(
            alt.X("date:T", title="date", axis=alt.Axis(format="%b %Y", tickCount=5), scale=alt.Scale(type="utc")),
            alt.Y("value:Q", title=title, axis=alt.Axis(format=form), scale=alt.Scale(zero=False)),
            alt.Color("series:N", title=None, scale=colours),
            alt.StrokeDash("series:N", title=None, scale=dashes),
        )
    )
    return specification([lines], title)


def cost_figure(returns: Returns) -> Figure | None:
    """Total net return against the cost of turnover, with the configured cost and the break-even cost."""
    if len(returns.by_cost) < 2:
        return None
    curve = [at.body() for at in returns.by_cost]
    max_bps = curve[-1]["cost_bps"]
    x = alt.X("cost_bps:Q", title="cost per unit of turnover (basis points)", scale=alt.Scale(nice=False))
    y = alt.Y("net:Q", title="return after costs", axis=alt.Axis(format=".0%"))
    tooltip = [alt.Tooltip("cost_bps:Q", format=".1f"), percent_tooltip("net")]
    layers = [chart(curve).mark_line(color=BLUE).encode(x, y, tooltip=tooltip), *rule(0.0)]
    marks = [(returns.cost_bps, "assumed", ORANGE), (returns.break_even_cost_bps, "break-even", PURPLE)]
    for cost, name, colour in marks:
        if cost is not None and 0 <= cost <= max_bps:
            layers += _upright(cost, name, colour, "right" if cost > max_bps / 2 else "left")
    hold = chart([{"net": returns.buy_and_hold}]).mark_rule(color=GREEN, strokeDash=[5, 2])
    layers.append(hold.encode(alt.Y("net:Q")))
    reading = (
        "The line is the return of the same positions at other trading costs; vertical lines are the "
        "assumed and the break-even cost. If they are close, the result "
        "depends on that assumption. The dashed green line is buy and hold."
    )
    panel = Panel("", specification(layers, "Net return against trading costs"))
    return Figure("costs", "Return at other trading costs", reading, (panel,))


def _upright(cost: float, name: str, colour: str, align: Literal["left", "right"]) -> list[alt.Chart]:
    rows = [{"cost_bps": cost, "name": f"{name}: {cost:.1f}"}]
    line = chart(rows).mark_rule(color=colour, strokeWidth=1.5).encode(alt.X("cost_bps:Q"))
    # At the top for one and below it for the other, so that close labels remain readable.
    place = alt.YValue(10 if name == "assumed" else 26)
    text = (
        chart(rows)
        .mark_text(align=align, dx=5 if align == "left" else -5, fontSize=12)
        .encode(alt.X("cost_bps:Q"), place, text="name:N")
    )
    return [line, text]
