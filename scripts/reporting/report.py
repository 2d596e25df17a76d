"""The two HTML reports and their figures as files; each report is one self-contained file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.reporting.analysis_page import AnalysisReport, analysis_page
from scripts.reporting.evaluation_page import EvaluationReport, evaluation_page
from scripts.reporting.figures import Figure
from scripts.reporting.page import Page, render
from scripts.storage.durable_files import write_bytes

__all__ = [
    "AnalysisReport",
    "EvaluationReport",
    "figures_for_tensorboard",
    "write_analysis_report",
    "write_evaluation_report",
]
_BESIDE_CURVES = ("reliability", "equity", "costs")


def write_analysis_report(path: Path, content: AnalysisReport) -> Sequence[Figure]:
    """Write the analysis of phases 1 and 2 as one HTML file; its charts.

    Raises
    ------
    EnvironmentFailed
        The disk is full or the folder cannot be written.
    """
    return _written(path, analysis_page(content))


def write_evaluation_report(path: Path, content: EvaluationReport) -> Sequence[Figure]:
    """Write the evaluation on the sealed test set as one HTML file; its charts. Errors as `write_analysis_report`."""
    return _written(path, evaluation_page(content))


def figures_for_tensorboard(figures: Sequence[Figure]) -> list[Figure]:
    """Return the charts of an evaluation that are useful besides learning curves: calibration, equity, costs."""
    return [figure for figure in figures if figure.name in _BESIDE_CURVES]


def _written(path: Path, page: Page) -> Sequence[Figure]:
    # Names may contain surrogates, which UTF-8 does not have (from paths that are not UTF-8, for example).
    write_bytes(path, render(page).encode(errors="backslashreplace"))
    return page.figures
