"""Names that files give to the columns of a market, in the languages of their vendors."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from scripts.data.files.column_names import missing_column
from scripts.errors import InputError

PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
LEVEL = "\x1f"  # between the levels of a name, such as Close and AAPL
# By column, the names in order of preference: lower case, without blanks and punctuation.
_NAMES = {
    "date": """date datetime timestamp tradedate tradingdate tradingday pricedate quotedate businessdate asofdate
        observationdate sessiondate caldt datadate day gmttime utctime localtime opentime starttime windowstart tsevent
        candlebegintime bartime datum data fecha tarih dia jour дата 日期 交易日期 日付 年月日 时间 時間 time t
        unix unixtime unixtimestamp epoch index""",
    "time": "time timeofday hour bartime zeit uhrzeit hora heure ora czas время 时间",
    "ticker": """ticker symbol tic sym tickersymbol stocksymbol tscode instrument ric secid code scode stockcode
        securitycode asset stock security name contract permno isin cusip figi wkn
        代码 股票代码 证券代码 コード тикер""",
    "open": """open openprice openingprice pxopen openprc openprice1 open1 firstprice first erster eröffn eröffnung
        eroffn eroffnung eröffnungskurs kurserster otwarcie apertura ouverture abertura opening
        开盘 开盘价 始値 откр o""",
    "high": """high highprice highestprice pxhigh askhi high1 dayhigh hoch höchstkurs tageshoch
        najwyzszy najwyższy maximo máximo plushaut haut massimo máxima 最高 最高价 高値 макс h""",
    "low": """low lowprice lowestprice pxlow bidlo low1 daylow tief tiefstkurs tagestief najnizszy najniższy
        minimo mínimo plusbas bas mínima 最低 最低价 安値 мин l""",
    "close": """close closeprice closingprice closelast pxlast last lastprice latest price prc trdprc1 tradeprice
        settle settlement settlementprice zuletzt schluss schlusskurs schlußkurs letzter kurs zamkniecie zamknięcie
        cierre último ultimo clôture cloture fermeture dernier chiusura fechamento
        收盘 收盘价 終値 цена закр закрытие c""",
    "volume": """volume totalvolume tradevolume tradedvolume volumetraded sharestraded numberofshares basevolume
        volumebase volumebtc volumeshares pxvolume acvoluns tickvolume tickvol vol tottrdqty tradedquantity
        totalquantity quantity qty stuecke stück stücke volumen umsatz wolumen volumen volumes obem
        объем объём 成交量 出来高 v""",
}
_ADJUSTED = re.compile(
    r"(?:adjusted|adjustment|adj)(open|high|low|close|volume)(?:price)?|(open|high|low|close|volume)(?:adjusted|adj)"
)
KNOWN = {role: tuple(names.split()) for role, names in _NAMES.items()}
_DECORATION = re.compile(r"[\W_]+")
_NUMBERED = re.compile(r"^\s*\d+\.\s+")  # "4. close" of Alpha Vantage
_UNIT = re.compile(r"\s*[(\[](?:[^)\]]*)[)\]]\s*$")  # "Volume (BTC)"


def plain_name(name: str) -> str:
    """Return a name in lower case, without punctuation, blanks, a number before it or a unit after it."""
    name = unicodedata.normalize("NFKC", name)
    name = _NUMBERED.sub("", name)
    return _DECORATION.sub("", _UNIT.sub("", name) or name).lower()


def adjusted_role(name: str) -> str | None:
    """Return the column of which a name is the adjusted form: "close" for Adj Close."""
    found = _ADJUSTED.fullmatch(plain_name(name))
    return None if found is None else found[1] or found[2]


def value_role(name: str) -> str | None:
    """Return the price or volume that a name is known for, adjusted_close and so on included."""
    if (adjusted := adjusted_role(name)) is not None:
        return f"adjusted_{adjusted}"
    return next((role for role in VALUES if plain_name(name) in KNOWN[role]), None)


def is_price_name(name: str) -> bool:
    """Return True for a price, a volume, or what yfinance gives in addition to them."""
    return value_role(name) is not None or plain_name(name) in ("dividends", "stocksplits", "capitalgains")


def roles_of(names: Sequence[str], declared: Mapping[str, str], where: str) -> dict[str, str]:
    """Find the columns of a market by their names.

    Parameters
    ----------
    names : sequence of str
        Names in the file.
    declared : mapping of str to str
        Names by role, as the config has them.
    where : str
        The file, for messages.

    Returns
    -------
    dict of str to str
        Name in the file by role: date, time, ticker, open, high, low, close, volume, adjusted_close and so on, and
        price_divisor, CRSP's factor by which a price is divided and a volume multiplied.

    Raises
    ------
    InputError
        A declared column is missing, or two columns have the same known name.
    """
    roles = {}
    for role, name in declared.items():
        if name not in names:
            raise missing_column(name, names, where, f"correct data.columns.{role}")
        roles[role] = name
    taken = set(roles.values())
    by_name: dict[str, list[str]] = {}
    for name in names:
        if name not in taken:
            by_name.setdefault(plain_name(name), []).append(name)
    for role, known in KNOWN.items():
        if role in roles or role == "time":
            continue
        found = next((by_name[own] for own in known if own in by_name), None)
        if found is None and role == "volume":
            found = next((own for plain, own in by_name.items() if plain.startswith("volume")), None)
        if found is not None:
            roles[role] = _only(found, role, where)
            taken.add(roles[role])
    if "date" in roles and "time" not in roles:
        clock: str | None = next(
            (by_name[own][0] for own in KNOWN["time"] if own in by_name and by_name[own][0] not in taken), None
        )
        roles |= {"time": clock} if clock else {}
    factor = next((own for own in names if plain_name(own) == "cfacpr" and own not in taken), None)
    roles |= {"price_divisor": factor} if factor else {}
    for name in names:
        if name not in taken and (adjusted := adjusted_role(name)) and f"adjusted_{adjusted}" not in roles:
            roles[f"adjusted_{adjusted}"] = name
    return roles


def _only(names: list[str], role: str, where: str) -> str:
    """Return the one column of a role; one that is spelled exactly as the role comes first."""
    if role == "volume":
        return names[0]  # in units of the asset; further ones are in money
    if len(names) > 1 and role not in names:
        shown = " and ".join(map(repr, names[:3]))
        raise InputError(f"columns {shown} can both be {role}", where, f"add --set 'data.columns.{role}={names[0]}'")
    return role if role in names else names[0]


def is_header(cells: Sequence[str]) -> bool:
    """Return True if cells are the names of a date and of a price, or of adjusted prices."""
    plain = [plain_name(cell) for cell in cells if cell.strip()]
    has_date = any(name in KNOWN["date"] or name in KNOWN["time"] for name in plain)
    prices = sum(any(name in KNOWN[role] for role in PRICES) for name in plain)
    return has_date and prices > 0 and len(plain) > 1
