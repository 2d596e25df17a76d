"""Warning that a model does not lead the best naive rule before its test set is opened."""

from __future__ import annotations

from scripts.storage.extended_record import Configuration
from scripts.storage.result_records import Selection
from scripts.storage.score_records import Promise


def shortfall(selection: Selection | Promise | Configuration) -> str:
    """Return a warning that a chosen configuration does not lead the best naive rule out of fold, else nothing."""
    skill, error = selection.skill, selection.skill_se
    if skill is None or skill > 0:
        return ""
    behind = f"{-100 * skill:.1f} pp behind" if skill < 0 else "level with"
    error_text = "" if error is None else f" (s.e. {100 * error:.1f} pp)"
    return (
        f"out of fold the model is {behind} the best naive rule{error_text}: opening the sealed test set for it "
        "counts as an opening; a further search may be the better next step"
    )
