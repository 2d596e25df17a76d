"""A Ray cluster of several nodes and a PostgreSQL server, both real and on this machine alone."""

import os

# Read by Ray when it is imported: every port of it on 127.0.0.1, no word to anybody.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.distributed.postgres import MISSING, PostgreSQL


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
