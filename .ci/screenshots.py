#!/usr/bin/env python3
"""Pictures of both reports of a finished run: light, dark, on a phone, and as they are printed.

    .venv/bin/python .ci/screenshots.py --run-dir RUN_DIR --out pictures

Needs Debian's chromium. docs/images/report_*.png are the parts that --crop takes of a run of ./run_pipeline.sh --quick.
"""

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import BrowserContext, Page

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.reporting.browser import chromium, open_report

REPORTS = ("analysis", "evaluation")
SIZES = {"desktop": (1100, 900), "phone": (360, 740)}
# Name of a picture -> report, and the texts between which it lies; None is the top of the page.
CROPS = {
    "report_verdict": ("evaluation", None, "Accuracy on the same rows, the model shaded."),
    "report_returns": ("evaluation", "Equity and drawdown after costs", "What other trading costs would have left"),
}


def take_all(context: BrowserContext, run_dir: Path, out: Path) -> None:
    """Whole pages in both themes and sizes, and a PDF."""
    page = context.new_page()
    for name in REPORTS:
        for size, (width, height) in SIZES.items():
            for theme in ("light", "dark"):
                page.set_viewport_size({"width": width, "height": height})
                page.emulate_media(color_scheme=theme, media="screen")
                open_report(page, run_dir / name / "report.html")
                page.screenshot(path=out / f"{name}_{size}_{theme}.png", full_page=True)
        page.pdf(
            path=out / f"{name}.pdf", format="A4", margin=dict.fromkeys(("top", "bottom", "left", "right"), "12mm")
        )


def take_crops(context: BrowserContext, run_dir: Path, out: Path) -> None:
    """Parts of the pages that the documentation shows."""
    page = context.new_page()
    page.set_viewport_size({"width": 900, "height": 900})
    for picture, (name, first, last) in CROPS.items():
        open_report(page, run_dir / name / "report.html")
        top = 0.0 if first is None else _place(page, first)
        bottom = _place(page, last)
        clip = {"x": 0, "y": top, "width": 900, "height": bottom - top}
        whole = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip))).convert("RGB")
        # Few colours make it three times smaller.
        whole.quantize(64, dither=Image.Dither.NONE).save(out / f"{picture}.png", optimize=True)


def _place(page: Page, text: str) -> float:
    box = page.locator("main").get_by_text(text, exact=True).bounding_box()
    if box is None:
        raise LookupError(f"the report does not show {text!r}")
    return float(box["y"])


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--crop", action="store_true", help="only the parts that docs/images holds")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium(folder) as context:
        (take_crops if options.crop else take_all)(context, options.run_dir, options.out)


if __name__ == "__main__":
    main()
