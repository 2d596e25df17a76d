"""Run a command whose run directory is published and shows signs of life every moment: hurried.py SCRIPT ARGUMENT..."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.storage.remote import lease as hold
from scripts.storage.remote import sync as mirror


def hurry():
    """Shorten the intervals."""
    mirror.PUBLISH_EVERY_S, hold.BEAT_S, hold.STALE_S = 0.2, 0.2, 2.0


if __name__ == "__main__":
    hurry()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
