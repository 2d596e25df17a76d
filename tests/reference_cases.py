"""Reference cases of `tests/vectors`: computed without the project, compared number by number."""

import json
from pathlib import Path
from typing import Any

import pytest


def reference_cases(*sections: str) -> list[dict[str, Any]]:
    """All cases of these sections."""
    cases = json.loads((Path(__file__).parent / "vectors" / "statistics.json").read_text())["cases"]
    return [case for case in cases if case["section"] in sections]


def assert_agrees(found: Any, expected: Any, tolerance: float) -> None:
    """Every number that is expected was found, to the tolerance; None only where None is expected."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert_agrees(found[name], value, tolerance)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_agrees(one, other, tolerance)
    elif expected is None:
        assert found is None
    else:
        assert found == pytest.approx(expected, abs=tolerance, rel=0)
