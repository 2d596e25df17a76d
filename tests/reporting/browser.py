"""A real browser for the reports: Debian's chromium with a new profile, driven by Playwright."""

import shutil
from contextlib import contextmanager

PROGRAM = shutil.which("chromium")
FLAGS = [
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def chromium(folder):
    """A browser without a window whose profile lies in the new `folder`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder, executable_path=PROGRAM, headless=True, args=FLAGS, chromium_sandbox=False
        )
        try:
            yield context
        finally:
            context.close()


def open_report(page, path):
    """Show a report; returns once it says of every chart that it is drawn, or why not."""
    page.goto(path.resolve().as_uri())
    page.wait_for_function("[...document.querySelectorAll('.chart')].every((c) => c.childNodes.length)")
