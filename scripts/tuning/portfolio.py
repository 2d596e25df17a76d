"""Portfolio of initial configurations that were good on generated data and complement each other."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from scripts.config.search_space import Choices, Scalar, SearchSpace
from scripts.tuning.space_transfer import translate

PATH = Path(__file__).with_name("portfolio.json")
SIZE = 8


@dataclass(frozen=True)
class Portfolio:
    """Configurations, the most helpful first.

    Attributes
    ----------
    joint : list of mappings
        Hyperparameters of all families together.
    by_family : mapping
        Hyperparameters of single families.
    """

    joint: list[dict[str, Scalar]]
    by_family: dict[str, list[dict[str, Scalar]]]

    def ordered(self, families: Collection[str]) -> list[dict[str, Scalar]]:
        """Configurations of these families: first the joint ones, then the best of each in turn; of one, its own."""
        if len(families) == 1:
            return list(self.by_family.get(next(iter(families)), []))
        chosen = [values for values in self.joint if values["family"] in families]
        lists = [own for family, own in self.by_family.items() if family in families]
        for rank in range(SIZE):
            chosen += [own[rank] for own in lists if rank < len(own) and own[rank] not in chosen]
        return chosen


def shipped() -> Portfolio:
    """The portfolio that benchmarks/build_portfolio.py has made."""
    content = json.loads(PATH.read_text(encoding="utf-8"))
    return Portfolio(content["joint"], content["by_family"])


@dataclass(frozen=True)
class Member:
    """Configuration of the portfolio in a search space; `changed` if it had to be moved into the space."""

    values: dict[str, Scalar]
    changed: bool


def portfolio(space: SearchSpace, own_families: Collection[str] = ()) -> list[Member]:
    """Up to `SIZE` distinct configurations of `space`, the most helpful first.

    Parameters
    ----------
    space : SearchSpace
        Only families that it allows take part.
    own_families : collection of str
        Families of the user, about which nothing is known.
    """
    family = space.get("family", "mlp")
    allowed = family.choices if isinstance(family, Choices) else (family,)
    chosen: list[Member] = []
    for values in shipped().ordered({str(name) for name in allowed} - set(own_families)):
        kept, changes = translate(values, space)
        if all(kept != entry.values for entry in chosen):
            chosen.append(Member(kept, any(change.kind != "default" for change in changes)))
    return chosen[:SIZE]
