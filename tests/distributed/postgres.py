"""A PostgreSQL server of the tests' own, in a temporary folder and on a free port of 127.0.0.1, with a password."""

import glob
import os
import shutil
import socket
import subprocess
from pathlib import Path

PASSWORD = "p4ss:w%rd@/nowhere"  # with every character that a URL has a meaning for
QUOTED = "p4ss%3Aw%25rd%40%2Fnowhere"


def program(name):
    """Path of one of the server's programs, which Debian keeps out of the search path; None without a server."""
    return shutil.which(name) or max(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), default=None)


MISSING = "" if program("initdb") else "no PostgreSQL server here: apt-get install postgresql"


class PostgreSQL:
    """Started by making it; a superuser must not run it, so that root makes it run as nobody."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self._data = folder, folder / "data"
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if os.getuid() == 0:
            for path in (folder, secret):
                shutil.chown(path, "nobody", "nogroup")
        self._do("initdb", "--no-sync", "-U", "hyper", "-A", "scram-sha-256", "--pwfile", secret, "-D", self._data)
        self.start()

    @property
    def url(self):
        """Address with the password."""
        return f"postgresql+psycopg://hyper:{QUOTED}@127.0.0.1:{self.port}/postgres"

    @property
    def url_without_password(self):
        """Address for those who have the password from elsewhere."""
        return f"postgresql+psycopg://hyper@127.0.0.1:{self.port}/postgres"

    def start(self):
        """Start and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self._do("pg_ctl", "start", "-w", "-D", self._data, "-l", self.folder / "log", "-o", options)

    def stop(self, mode):
        """End it: "fast" tells its clients, "immediate" is a crash."""
        self._do("pg_ctl", "stop", "-w", "-D", self._data, "-m", mode)

    def rows(self, statement):
        """Result of a statement; empty where it gives none."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="hyper", password=PASSWORD, dbname="postgres"
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _do(self, name, *arguments):
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
        done = subprocess.run(
            [*as_nobody, program(name), *map(str, arguments)],
            stdout=subprocess.DEVNULL,  # a pipe would stay open as long as the server
            stderr=subprocess.PIPE if name == "initdb" else subprocess.DEVNULL,
            cwd=self.folder,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {done.stderr}"
