"""A synthetic daily market whose best possible accuracy is known exactly.

Model, for ticker i and day t (everything a forecaster needs is in the public OHLCV history)::

    r[i,t]  = mu_i + sigma[i,t] * z[i,t]                      log close-to-close return
    z[i,t]  = rho * s[i,t-1] + sqrt(1-rho^2) * e[i,t]         e has mean 0, variance 1
    e       : unit-variance Student-t(nu), correlated across tickers through a common factor
    sigma^2 : GJR-GARCH(1,1) in past returns (volatility clusters, rises after falls)
    s       = sqrt(w) * (-z[i,t]) + sqrt(1-w) * z[i,t-1] * sign(u[i,t])
    u       : the innovation of the AR(1) log-volume shock

The first part of s is a linear one-day reversal; the second is an interaction (yesterday's move continues after a
volume surprise, reverts without one), of no use to a linear model without the product. The best probability of "next
close is higher" is then, with F the distribution function of e::

    p[i,t] = 1 - F( (-mu_i/sigma[i,t+1] - rho*s[i,t]) / sqrt(1-rho^2) )

so that the Bayes accuracy on any set of rows is mean(max(p, 1-p)). rho = 0 is a market with no signal at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtr

from scripts.config.experiment import SyntheticConfig
from scripts.errors import InputError

START = "2010-01-04"
LAST = "2100-12-31"  # the last date that any data source accepts
BURN_IN = 500  # days before the first bar, so that volatility does not depend on its start
TRADING_DAYS = 252
ALPHA, GAMMA, BETA = 0.04, 0.06, 0.90  # GJR-GARCH: persistence ALPHA + GAMMA/2 + BETA = 0.97
OVERNIGHT = 0.25  # share of a day's variance that falls between close and open
PRICES = ["open", "high", "low", "close"]


@dataclass(frozen=True)
class _Shocks:
    """Random draws before the recursion; arrays of shape (n_days, n_tickers) by default."""

    mu: np.ndarray  # (n_tickers,) daily drift
    var0: np.ndarray  # (n_tickers,) unconditional daily variance
    log_volume: np.ndarray  # (n_tickers,)
    e: np.ndarray
    u: np.ndarray


@dataclass(frozen=True)
class _Paths:
    """Paths after the burn-in, each of shape (n_days, n_tickers)."""

    returns: np.ndarray
    variance: np.ndarray
    p_up: np.ndarray  # probability of a positive return, given the past
    log_volume: np.ndarray


def generate(config: SyntheticConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Generate a market.

    Returns
    -------
    bars : DataFrame of n_tickers * n_days rows
        date (text, weekdays from 2010-01-04), ticker, open, high, low, close (units of currency, four decimals),
        volume (whole numbers); sorted by ticker, then date.
    truth : DataFrame, rows as in `bars`
        date, ticker, p_up_next: exact probability in [0, 1] that the next close is higher, six decimals; NaN on each
        ticker's last day.

    Raises
    ------
    InputError
        If the market would last beyond the year 2100 or a price leaves the range that four decimals can show.
    """
    last_possible = int(np.busday_count(START, LAST, "1111100"))
    if config.n_days > last_possible:
        raise InputError(
            f"{config.n_days} days from {START} reach beyond the year 2100",
            "data.synthetic.n_days",
            f"give at most {last_possible}",
        )
    generator = np.random.default_rng(config.seed)
    shocks = _draw(config, generator)
    bars, p_next = _bars(_simulate(config, shocks), config, generator)
    if not (np.isfinite(bars[PRICES]).all().all() and (bars[PRICES] > 0).all().all()):
        raise InputError(
            "a price falls below 0.0001 or overflows", "data.synthetic", "give fewer n_days or a drift nearer to 0.06"
        )
    truth = pd.DataFrame({"date": bars["date"], "ticker": bars["ticker"], "p_up_next": p_next})
    return bars, truth


def _draw(config: SyntheticConfig, generator: np.random.Generator) -> _Shocks:
    # The order of the draws is part of the format: any change gives other markets for the same seed.
    n, days, nu = config.n_tickers, config.n_days + BURN_IN, config.nu
    yearly = generator.uniform(0.16, 0.42, n)
    common = generator.standard_normal(days)[:, None]
    e = config.beta * common + np.sqrt(1 - config.beta**2) * generator.standard_normal((days, n))
    mixing = generator.chisquare(nu, (days, n)) / nu  # a normal over the root of this is Student-t
    e = e / np.sqrt(mixing) * np.sqrt((nu - 2) / nu)
    u = generator.standard_normal((days, n))
    mu = (config.drift - 0.5 * yearly**2 * 0.5) / TRADING_DAYS
    return _Shocks(mu, yearly**2 / TRADING_DAYS, generator.uniform(13, 16.5, n), e, u)


def _simulate(config: SyntheticConfig, shocks: _Shocks) -> _Paths:
    mu, var0, rho = shocks.mu, shocks.var0, config.rho
    omega = var0 * (1 - ALPHA - GAMMA / 2 - BETA)
    noise = np.sqrt(1 - rho**2)
    returns, variance, log_volume, quantile = (np.empty_like(shocks.e) for _ in range(4))
    s2, z_before, signal, volume = var0.copy(), np.zeros_like(mu), np.zeros_like(mu), np.zeros_like(mu)
    for day, (e, u) in enumerate(zip(shocks.e, shocks.u, strict=True)):
        strength = -rho if config.switch is not None and day - BURN_IN >= config.switch else rho
        sigma = np.sqrt(s2)
        quantile[day] = (-mu / sigma - strength * signal) / noise
        z = strength * signal + noise * e
        r = mu + sigma * z
        volume = 0.6 * volume + 0.35 * u
        returns[day], variance[day] = r, s2
        log_volume[day] = shocks.log_volume + volume + 0.25 * (np.abs(z) - 0.75)
        signal = -np.sqrt(config.w) * z + np.sqrt(1 - config.w) * z_before * np.sign(u)
        z_before = z
        # The cap keeps a rare explosion of the t innovations from making a price meaningless.
        s2 = np.minimum(omega + (ALPHA + GAMMA * (r < 0)) * (r - mu) ** 2 + BETA * s2, 36 * var0)
    p_up = 1 - stdtr(config.nu, quantile * np.sqrt(config.nu / (config.nu - 2.0)))
    return _Paths(*(path[BURN_IN:] for path in (returns, variance, p_up, log_volume)))


def _bars(paths: _Paths, config: SyntheticConfig, generator: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Bars, sorted by ticker and date, and the probability that the next close is higher."""
    r, (n_days, n) = paths.returns, paths.returns.shape
    log_close = np.log(generator.uniform(15, 250, n)) + np.cumsum(r, axis=0)
    bridge = np.sqrt(OVERNIGHT * (1 - OVERNIGHT) * paths.variance)
    session = r - (OVERNIGHT * r + bridge * generator.standard_normal(r.shape))
    # Exact extremes of a Brownian bridge from open to close.
    spread = 2 * (1 - OVERNIGHT) * paths.variance
    up = (session + np.sqrt(session**2 - spread * np.log(generator.uniform(size=r.shape)))) / 2
    down = (session - np.sqrt(session**2 - spread * np.log(generator.uniform(size=r.shape)))) / 2
    log_open = log_close - session
    columns = {"open": log_open, "high": log_open + up, "low": log_open + down, "close": log_close}
    bars = pd.DataFrame(
        {
            "date": np.tile(pd.bdate_range(START, periods=n_days).strftime("%Y-%m-%d").to_numpy(), n),
            "ticker": np.repeat([f"SYN{i:02d}" for i in range(n)], n_days),
            **{name: np.exp(values).T.ravel() for name, values in columns.items()},
            "volume": np.exp(paths.log_volume).T.ravel(),
        }
    )
    bars[PRICES] = bars[PRICES].round(4)
    # Rounding may put the open or close one unit outside of the range.
    bars["high"], bars["low"] = bars[PRICES].max(axis=1), bars[PRICES].min(axis=1)
    bars["volume"] = bars["volume"].round().astype("int64")
    p_next = np.vstack([paths.p_up[1:], np.full((1, n), np.nan)])
    return bars, p_next.T.ravel().round(6)
