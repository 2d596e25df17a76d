"""No command opens a connection: what it needs is on this machine."""

import os
import subprocess
import sys

from tests.conftest import ROOT, SCRIPTS, guard_connections, run_in_shell


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def test_a_whole_pipeline_opens_no_connection(finished_run):
    """Every process of the finished run was guarded."""
    assert len(lines(finished_run.guard / "processes")) >= len(SCRIPTS)
    assert lines(finished_run.guard / "connections") == []


def test_the_imports_of_the_commands_open_no_connection(tmp_path):
    """The finished run is made in forks of a process that has imported them without a guard."""
    environment = os.environ | guard_connections(tmp_path / "guard")
    subprocess.run([sys.executable, "-c", "import tests.forked"], cwd=ROOT, env=environment, check=True)
    assert lines(tmp_path / "guard" / "processes") and lines(tmp_path / "guard" / "connections") == []


def test_workers_open_no_connection(tmp_path, tiny_config):
    guard = guard_connections(tmp_path / "guard")
    counts = [f"tuning.n_{stage}_trials={n}" for stage, n in (("random", 2), ("bayesian", 0), ("fine_tune", 0))]
    flags = [part for count in counts for part in ("--set", count)]
    arguments = ["--config", tiny_config, "--workers", 2, *flags]
    done = run_in_shell(SCRIPTS[0], tmp_path / "run", *arguments, environment=guard)
    assert done.returncode == 0, done.stderr
    assert len(lines(tmp_path / "guard" / "processes")) >= 2  # the server that workers are forked from, too
    assert lines(tmp_path / "guard" / "connections") == []


def test_the_guard_sees_and_refuses(tmp_path):
    codes = (
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('localhost', 80)",
    )
    for number, code in enumerate(codes):
        guard = guard_connections(tmp_path / str(number))
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | guard, capture_output=True, text=True)
        assert "there is no network" in done.stderr
        assert lines(tmp_path / str(number) / "connections")
