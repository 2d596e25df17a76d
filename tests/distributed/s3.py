"""An S3 server of the tests' own on a free port of 127.0.0.1, and a gate before it that can be shut."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.conftest import ROOT

_PROGRAMS = ROOT / ".venv" / "moto"
MISSING = "" if (_PROGRAMS / "moto").is_dir() else "no S3 server here: see tests/distributed/requirements-moto.txt"
KEY, SECRET = "AKIAHYPERTESTS", "s3cr3t/of+the=tests"


class S3:
    """Started by making it; its objects live as long as it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = os.environ | {"PYTHONPATH": str(_PROGRAMS)}
        with_parent = [sys.executable, "-IS", ROOT / "scripts" / "execution" / "die_with_parent.py", str(os.getpid())]
        with open(folder / "log", "w") as log:
            self._process = subprocess.Popen(
                [*with_parent, sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                env=environment,
                stdout=log,
                stderr=log,
            )
        while not _listens(self.port):
            assert self._process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)

    def environment(self, port=None):
        """Variables that lead to it, through a gate if its port is given."""
        endpoint = f"http://127.0.0.1:{port or self.port}"
        return {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}

    def make_bucket(self, name):
        """Make it."""
        import urllib.request

        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=60).close()

    def store(self, bucket, prefix=None):
        """What lies in a bucket, by another client than Hyper's own code."""
        from obstore.store import S3Store

        config = {"endpoint": f"http://127.0.0.1:{self.port}", "access_key_id": KEY, "secret_access_key": SECRET}
        options = {"allow_http": True}
        return S3Store(bucket, prefix=prefix, region="us-east-1", config=config, client_options=options)

    def stop(self):
        """End it."""
        self._process.kill()
        self._process.wait()


class Gate:
    """Passes connections on to a port while it is open; while it is shut, each one is refused or breaks off."""

    def __init__(self, port: int) -> None:
        self._target, self._open, self._passing = port, threading.Event(), []
        self._open.set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def shut(self):
        """Break all connections off, and each new one."""
        self._open.clear()
        for end in self._passing:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def open(self):
        """Let connections through again."""
        self._open.set()

    def close(self):
        """For good."""
        self.shut()
        self._server.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                if not self._open.is_set():
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._passing += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=ends, daemon=True).start()


def _pass_on(source, target):
    with contextlib.suppress(OSError):
        while content := source.recv(2**16):
            target.sendall(content)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
