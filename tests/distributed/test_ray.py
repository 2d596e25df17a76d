"""The commands on a Ray cluster of two nodes: the same bits as elsewhere, and no trial lost when a node dies."""

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path

from tests.commands.test_interruption import wait_for
from tests.conftest import EXTENDED, SCRIPTS, TRIALS, artifact, command, finish, run, without_times

ON_RUNGS = ["--set", "tuning.scheduler=rungs", "--set", "tuning.rungs=[2, 4]", "--set", "tuning.epoch_budget=30"]

FOLDERS = ("hyperparameter_tuning_results", "extended_training_results")
PHASES = dict(zip(SCRIPTS[:2], ("phase 1", "phase 2"), strict=True))
LOOPBACK = "0100007F"


def events(folder, *kinds):
    """Lines of the event log of some kinds."""
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] in kinds]


def test_ray_finds_what_one_process_finds(cluster, finished_run, tmp_path):
    flags = ["--config", finished_run.config, "--execution", "ray", "--ray-address", cluster.address]
    finish(tmp_path, *flags, scripts=SCRIPTS[:2])
    for file in (TRIALS, EXTENDED, "best_config.json"):
        assert without_times(artifact(tmp_path, file)) == without_times(artifact(finished_run.folder, file)), file
    nodes = {event["worker"].split()[-1] for event in events(tmp_path, "worker_started")}
    assert len(nodes) == 2


def test_ray_finds_what_one_process_finds_on_rungs(cluster, tiny_config, tmp_path):
    flags = ["--config", tiny_config, *ON_RUNGS]
    finish(tmp_path / "one", *flags, "--workers", 1, scripts=SCRIPTS[:1])
    finish(tmp_path / "ray", *flags, "--execution", "ray", "--ray-address", cluster.address, scripts=SCRIPTS[:1])
    found = [without_times(artifact(tmp_path / name, TRIALS)) for name in ("one", "ray")]
    assert found[0] == found[1]


def test_a_node_that_dies_in_phases_1_and_2_costs_an_epoch_of_its_worker(cluster, tiny_config, tmp_path):
    """Every epoch is one batch, and a byte in a file: more bytes than reported epochs were trained twice."""
    count = tmp_path / "count"
    flags = ["--config", tiny_config, "--execution", "ray", "--ray-address", cluster.address]
    for assignment in (
        "models.counted=tests.distributed.counting:counted",
        "search_space.family=counted",
        f"search_space.count={count}",
        "search_space.batch_size=4096",
        "tuning.epochs_per_trial_random=100",
        "tuning.early_stopping_patience=100",
        "extended.extended_epochs=100",
        "extended.early_stopping_patience=100",
        "extended.racing=false",
    ):
        flags += ["--set", assignment]
    for script, folder, result in zip(SCRIPTS, FOLDERS, (TRIALS, EXTENDED), strict=False):
        count.unlink(missing_ok=True)
        process = subprocess.Popen(command(script, tmp_path, *flags), stderr=subprocess.PIPE, text=True)
        wait_for(tmp_path / folder / "checkpoints", 300)
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        cluster.add_node(num_cpus=1)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        repeated = count.stat().st_size - artifact(tmp_path, result)["epochs_spent"]
        n_died = sum(event["phase"] == PHASES[script] for event in events(tmp_path, "worker_died"))
        assert 0 <= repeated <= n_died
    assert len(artifact(tmp_path, TRIALS)["trials"]) == 7
    assert all(trial["state"] != "failed" for trial in artifact(tmp_path, TRIALS)["trials"])
    assert len(artifact(tmp_path, EXTENDED)["configurations"]) == 2


def test_an_own_cluster_listens_on_this_machine_alone_and_ends_with_its_command(tiny_config, tmp_path):
    arguments = command(SCRIPTS[0], tmp_path, "--config", tiny_config, "--execution", "ray", "--workers", 2)
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(tmp_path / "events.jsonl", 300)
    while not events(tmp_path, "worker_started"):
        assert process.poll() is None
        time.sleep(0.1)
    members = descendants(process.pid)
    assert len(members) > 4
    assert {address for member in members for address in listening(member)} == {LOOPBACK}
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{member}").exists() for member in members) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [member for member in members if Path(f"/proc/{member}").exists()]


def descendants(root):
    """Processes that stem from `root`, itself included."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = {root}
    while further := {child for child, parent in parents.items() if parent in found} - found:
        found |= further
    return found


def listening(process):
    """IPv4 addresses, as the kernel writes them, that a process listens on; "any" for all."""
    sockets = set()
    with contextlib.suppress(OSError):
        sockets = {os.readlink(descriptor) for descriptor in Path(f"/proc/{process}/fd").iterdir()}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                yield fields[1].partition(":")[0][-8:]


def test_an_address_of_rays_client_is_refused_with_the_remedy(tiny_config, tmp_path):
    flags = ["--config", tiny_config, "--execution", "ray", "--ray-address", "ray://127.0.0.1:10001"]
    done = run(SCRIPTS[0], tmp_path, *flags)
    assert done.returncode == 2
    assert "run the command on a machine of the cluster" in done.stderr


def test_a_cluster_that_is_not_there_is_the_environments_fault(tiny_config, tmp_path):
    """An address where nobody listens; auto would find the cluster of the other tests."""
    flags = ["--config", tiny_config, "--execution", "ray", "--ray-address", "127.0.0.1:1"]
    done = run(SCRIPTS[0], tmp_path, *flags)
    assert done.returncode == 5
    assert "no Ray cluster" in done.stderr
    assert "Traceback" not in done.stderr
