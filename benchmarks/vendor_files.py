"""Which files of vendors are read, and to which numbers? Each case has the right answer in its folder.

A file is read correctly if rows, dates, closes and volumes of every ticker are those of the answer. Where it is
refused, the line of the message is tried. The table goes into docs/data.md.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.config.experiment import DataConfig
from scripts.config.yaml_files import parse_assignment
from scripts.data.sources import read_data
from scripts.errors import InputError

CASES = ROOT.parent / "shared" / "cases" / "vendors"
FIGURES = ("rows", "first_date", "last_date", "first_close", "last_close", "sum_close", "sum_volume")


def differences(frame: pd.DataFrame, truth: dict[str, dict[str, float | str | None]]) -> list[str]:
    """Figures that are not those of the answer; one ticker may have another name, which the file may not state."""
    by_ticker = {str(name): own for name, own in frame.groupby("ticker")}
    if len(by_ticker) == len(truth) == 1:
        by_ticker = {next(iter(truth)): next(iter(by_ticker.values()))}
    if by_ticker.keys() != truth.keys():
        return ["names of the tickers"]
    found = set()
    for name, own in by_ticker.items():
        volume = own["volume"].sum() if "volume" in own else None
        dates = own["date"].iloc[0].isoformat(), own["date"].iloc[-1].isoformat()
        closes = own["close"].iloc[0], own["close"].iloc[-1], own["close"].sum()
        for figure, value in zip(FIGURES, (len(own), *dates, *closes, volume), strict=True):
            expected = truth[name][figure]
            if expected is None or value == expected:
                continue
            if isinstance(expected, str) or not np.isclose(float(value or 0.0), float(expected), rtol=1e-6):
                found.add(figure)
    return sorted(found)


def outcome(case: dict[str, str]) -> tuple[str, str]:
    """What became of a file, and the details in words."""
    folder = CASES / case["case"]
    truth = json.loads((folder / "truth.json").read_text())
    if (folder / "truth_adjusted.json").exists():
        truth = json.loads((folder / "truth_adjusted.json").read_text())
    values: dict[str, object] = {"source": "market", "path": str(folder / case["file"])}
    details = ""
    for _ in range(2):
        try:
            frame = read_data(DataConfig.model_validate(values)).frame
        except InputError as error:
            details = error.what
            lines = re.findall(r"--set ('(?:[^']*)'|\S+)", error.remedy)
            if truth is None or not lines or "like a split" in error.what:
                return "refused", details
            line = next((line for line in lines if "thousands" in line), lines[-1])  # as the answer has it
            key, value = next(iter(parse_assignment(shlex.split(line)[0])["data"].items()))
            values[key] = value
            continue
        if truth is None:
            return "read with a repair", ""
        odd = differences(frame, truth)
        way = "read" if len(values) == 2 else f"read with data.{key}={value}"
        return (way, "") if not odd else ("differs from the answer", ", ".join(odd))
    return "refused", details


def main() -> None:
    """Print the table and the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    counts: Counter[str] = Counter()
    print("| vendor | form | result |\n|---|---|---|")
    for case in json.loads((CASES / "index.json").read_text()):
        how, details = outcome(case)
        counts[how.split(" with data")[0]] += 1
        form = case["form"].replace("|", "\\|")
        print(f"| {case['vendor']} | {form} | {how}{': ' + details if details else ''} |")
    print(file=sys.stderr)
    print(", ".join(f"{how} {count}" for how, count in counts.most_common()), file=sys.stderr)


if __name__ == "__main__":
    main()
