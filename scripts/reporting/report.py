"""The two HTML reports and their figures as files; each report is one file that opens without a network."""

from __future__ import annotations

from pathlib import Path

from scripts.artifacts import write_bytes
from scripts.reporting.analysis_page import AnalysisReport, analysis_page
from scripts.reporting.evaluation_page import EvaluationReport, evaluation_page
from scripts.reporting.figures import Figure, write_svg
from scripts.reporting.page import Page, render

__all__ = [
    "AnalysisReport",
    "EvaluationReport",
    "figures_for_tensorboard",
    "write_analysis_report",
    "write_evaluation_report",
    "write_figures",
]
_BESIDE_CURVES = ("reliability", "equity", "costs")


def write_analysis_report(path: Path, content: AnalysisReport) -> None:
    """Write the analysis of phases 1 and 2 as one HTML file.

    Raises
    ------
    EnvironmentFailed
        The disk is full or the folder cannot be written.
    """
    write_bytes(path, _encoded(analysis_page(content)))


def write_evaluation_report(path: Path, content: EvaluationReport) -> None:
    """Write the evaluation on the sealed test set as one HTML file; errors as `write_analysis_report`."""
    write_bytes(path, _encoded(evaluation_page(content)))


def figures_for_tensorboard(content: EvaluationReport) -> list[Figure]:
    """Those charts of an evaluation that are worth seeing beside learning curves: calibration, equity, costs."""
    return [figure for figure in evaluation_page(content).figures if figure.name in _BESIDE_CURVES]


def write_figures(folder: Path, content: AnalysisReport | EvaluationReport) -> list[Path]:
    """Write every chart of a report as an SVG file into `folder`; their paths."""
    page: Page = analysis_page(content) if isinstance(content, AnalysisReport) else evaluation_page(content)
    return write_svg(folder, page.figures)


def _encoded(page: Page) -> bytes:
    # Names may hold halves of characters that UTF-8 does not have (paths that are not UTF-8, for example).
    return render(page).encode(errors="backslashreplace")
