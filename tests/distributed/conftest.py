"""A Ray cluster of several nodes, a PostgreSQL server and an S3 server, all real and on this machine alone."""

import os

# Read by Ray when it is imported: every port of it on 127.0.0.1, no word to anybody.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import shutil
import tempfile
from pathlib import Path

import pytest

from scripts.storage.remote import lease as hold_module
from scripts.storage.remote import sync as mirror_module
from tests.distributed.postgres import MISSING, PostgreSQL
from tests.distributed.prefix import BUCKET, Prefix
from tests.distributed.s3 import S3


@pytest.fixture(scope="module")
def cluster():
    """A head that trains nothing, and two nodes of one processor each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server that runs; its folder is no other test's, since pytest keeps those from other users."""
    if MISSING:
        pytest.skip(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="hyper-postgres-"))
    server = PostgreSQL(folder)
    yield server
    server.stop("immediate")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    made = S3(tmp_path_factory.mktemp("s3"))
    made.make_bucket(BUCKET)
    yield made
    made.stop()


@pytest.fixture
def place(server, tmp_path, monkeypatch, request):
    """A prefix of this test's own, with the environment that leads to it and a cache of this machine."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "HYPER_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "aws" / name))
    monkeypatch.setenv("HYPER_CACHE", str(tmp_path / "cache"))
    return Prefix(server, f"runs/{request.node.name[:40]}")


@pytest.fixture
def hurried(monkeypatch):
    """Intervals of moments, in this process."""
    monkeypatch.setattr(hold_module, "BEAT_S", 0.1)
    monkeypatch.setattr(hold_module, "STALE_S", 1.0)
    monkeypatch.setattr(mirror_module, "PUBLISH_EVERY_S", 0.0)
