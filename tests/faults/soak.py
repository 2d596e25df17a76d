"""Very many accidents, in a folder that is thrown away; `./run_tests.sh --soak` prints what came of them.

With --write the table of the document on reliability is replaced by that of this run.
"""

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.common import machine
from tests.conftest import ROOT, SCRIPTS, TINY
from tests.faults import accidents, received
from tests.faults.commands import differences, finish

DOCUMENT = ROOT / "docs" / "reliability.md"
MARKERS = ("<!-- soak: begin -->", "<!-- soak: end -->")


class Soak:
    """Counts of accidents and of what went wrong.

    Parameters
    ----------
    folder : Path
        Where everything lies.
    share : float
        Of the full numbers.
    """

    def __init__(self, folder, share):
        self.folder, self.share = folder, share
        self.rows: list[tuple[str, int, str]] = []
        self.points: list[tuple[str, str, int, str]] = []
        config = folder / "tiny.yaml"
        config.write_text(TINY)
        self.tiny = ("--config", config, "-q")
        self.quick = ("--config", ROOT / "configs" / "quick.yaml", "-q")

    def number(self, full):
        """So many of `full` accidents are tried."""
        return max(1, round(full * self.share))

    def add(self, what, n, bad, begun):
        """Note the outcome of one kind of accident."""
        said = "none" if not bad else f"{len(bad)}: {'; '.join(map(str, bad[:3]))}"
        self.rows.append((what, n, said))
        print(f"{what}: {n}, wrong: {said} ({time.monotonic() - begun:.0f} s)", flush=True)

    def calm(self, name, arguments):
        """A run left alone, and the seconds that each of its phases takes."""
        folder, took = self.folder / name, {}
        for script in SCRIPTS:
            begun = time.monotonic()
            finish(folder, *arguments, "--workers", 1, scripts=[script])
            took[script] = time.monotonic() - begun
        return folder, took

    def kill_pipelines(self):
        """Random kills of whole pipelines with two workers, compared with a pipeline with one that was left alone."""
        begun, bad, kills, k = time.monotonic(), [], 0, 0
        calm, took = self.calm("quick", self.quick)
        while kills < self.number(200):
            folder = self.folder / f"pipeline_{k}"
            done, found = accidents.killed_pipeline(folder, calm, k, took, *self.quick, "--workers", 2)
            kills, k, bad = kills + done, k + 1, bad + found
        self.add(f"random SIGKILLs, {k} quick pipelines, two workers", kills, bad, begun)

    def kill_workers(self):
        """Random kills of the main process or a worker of a search with two workers."""
        begun, bad, kills, k = time.monotonic(), [], 0, 0
        calm, took = self.calm("workers", self.tiny)
        generator, longest = random.Random(0), took[SCRIPTS[0]]
        while kills < self.number(100):
            folder = self.folder / f"workers_{k}"
            for _ in range(8):
                run = (SCRIPTS[0], folder, generator, longest, *self.tiny, "--workers", 2)
                killed, ended = accidents.kill_some_process(*run)
                kills += killed
                if ended:
                    break
            finish(folder, *self.tiny, "--workers", 2, scripts=SCRIPTS[:1])
            bad, k = bad + differences(folder, calm, scripts=SCRIPTS[:1]), k + 1
        self.add(f"SIGKILLs of a random process, {k} searches, two workers", kills, bad, begun)

    def kill_at_points(self):
        """A kill at each named point of each phase."""
        begun, bad, n = time.monotonic(), [], 0
        calm, _ = self.calm("points", self.tiny)
        generator = random.Random(0)
        arguments = (*self.tiny, "--workers", 1)
        before = self.folder / "before"
        for script in SCRIPTS:
            _copy(before, self.folder / "counted")
            counts = accidents.count_points(script, self.folder / "counted", *arguments)
            for name, count in sorted(counts.items()):
                if generator.random() > self.share:
                    continue
                folder = self.folder / f"point_{n}"
                _copy(before, folder)
                target = (name, generator.randrange(count))
                reached = accidents.killed_at(script, folder, target, *arguments)
                finish(folder, *arguments, scripts=[script])
                found = differences(folder, calm, scripts=[script]) + ([] if reached else [f"{target} not reached"])
                self.points.append((script, name, count, "the same bits" if not found else "; ".join(found)))
                bad, n = bad + found, n + 1
            finish(before, *arguments, scripts=[script])
        self.add("kills at named points, one worker", n, bad, begun)

    def feed(self):
        """Fuzzed tables and configs, damaged artifacts, traps."""
        finished = self.folder / "workers"
        finish(finished, *self.tiny, "--workers", 1)
        kinds = (
            ("fuzzed market files", 2000, lambda seed: accidents.table_outcome(seed, self.folder / "market.csv")),
            ("fuzzed configs", 2000, lambda seed: accidents.config_outcome(seed, self.folder / "config.yaml")),
            ("damaged artifacts", 1000, lambda seed: accidents.damage_is_noticed(seed, finished, self.folder)),
            ("malicious pickles and archives", 100, lambda seed: accidents.trap_is_harmless(seed, self.folder)),
        )
        data = received.new_data(self.folder / "new.csv")
        calm, config = finished, self.tiny[1]
        edited = ("artifacts edited and signed again", 1000)
        kinds += ((*edited, lambda seed: not received.problem(seed, calm, config, data, self.folder)),)
        for what, full, happens in kinds:
            begun, bad, n = time.monotonic(), [], self.number(full)
            for seed in range(n):
                try:
                    if not happens(seed):
                        bad.append(f"seed {seed} accepted")
                except Exception as error:  # whatever it is, it is a fault of ours
                    bad.append(f"seed {seed}: {type(error).__name__}: {error}")
            self.add(what, n, bad, begun)

    def document(self):
        """The tables of all outcomes in Markdown."""
        lines = [
            f"`./run_tests.sh --soak` of {datetime.now(UTC).date().isoformat()}, {machine()}:",
            "",
            "| accidents | number | wrong |",
            "|---|---|---|",
            *(f"| {what} | {n:,} | {wrong} |" for what, n, wrong in self.rows),
            "",
            "Each point at which a command was killed, how often it passes it, and what it ended in when run again:",
            "",
            "| command | point | times | then |",
            "|---|---|---|---|",
            *(f"| `{script}` | {name} | {count} | {then} |" for script, name, count, then in self.points),
        ]
        return "\n".join(lines)


def _copy(source, target):
    """A run directory as it was before a command; an empty one if there is none yet."""
    if source.exists():
        shutil.copytree(source, target, dirs_exist_ok=True)


def main():
    """Run all kinds of accidents; exit code 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, metavar="S", help="of the full numbers (default: 1)")
    parser.add_argument("--only", metavar="KIND,...", help="kill_pipelines, kill_workers, kill_at_points, feed")
    parser.add_argument("--write", action="store_true", help=f"replace the table in {DOCUMENT.relative_to(ROOT)}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), given.share)
        for kind in (given.only or "kill_workers,feed,kill_at_points,kill_pipelines").split(","):
            getattr(soak, kind)()
        if given.write:
            text, (begin, end) = DOCUMENT.read_text(), MARKERS
            new = f"{begin}\n{soak.document()}\n{end}"
            DOCUMENT.write_text(re.sub(f"{begin}.*?{end}", lambda _: new, text, flags=re.S))
        sys.exit(any(wrong != "none" for _, _, wrong in soak.rows))


if __name__ == "__main__":
    main()
