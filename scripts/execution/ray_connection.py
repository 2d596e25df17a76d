"""Connection to a Ray cluster, or to a private one that listens on this machine only."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from scripts.errors import EnvironmentFailed, InputError

_ROOT = Path(__file__).resolve().parents[2]
_ANSWER_S = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ray_connection(address: str | None, processors: float, modules: Iterable[str] = ()) -> Iterator[None]:
    """A connection to Ray while the block runs; a cluster that was started here ends with it.

    Parameters
    ----------
    address : str or None
        auto, HOST:PORT, or None for a cluster of this process's own.
    processors : float
        Of an own cluster.
    modules : iterable of str
        Modules of the user's model families, sent to the nodes with our own.

    Raises
    ------
    InputError
        Ray is not installed, or the address is one of Ray's client, which passes no streams on.
    EnvironmentFailed
        The cluster does not answer, or failed later: any error of Ray itself, but not of a task.
    """
    if address is not None and address.startswith("ray://"):
        remedy = "run the command on a machine of the cluster, with auto or HOST:PORT"
        raise InputError("is an address of Ray's client, which passes no streams on", "--ray-address", remedy)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        # Named after other systems, but what it does is to keep every port of Ray on 127.0.0.1.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError:
        raise InputError(
            "is not installed", "ray", "run .venv/bin/pip install -r requirements/distributed.txt"
        ) from None
    # Ray installs its own signal handlers, which would end the command without its last line.
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    connect = functools.partial(ray.init, log_to_driver=False, logging_level=logging.ERROR)
    sent = _sent(modules)
    try:
        _check_listening(address)
        if address is None:
            with _search_path():
                connect("local", num_cpus=max(1, round(processors)), include_dashboard=False)
        else:
            connect(address, runtime_env={"py_modules": sent})
    except Exception as error:  # of many classes, as its parts have them
        remedy = "start it or give another address, then rerun the same command to resume"
        raise EnvironmentFailed(f"no Ray cluster: {first_line(error)}", _named(address), remedy) from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    with nullcontext() if address is not None else _ended_with_us():
        try:
            yield
        except ray.exceptions.RayTaskError:
            raise  # an error of a task is not a failure of Ray
        except ray.exceptions.RayError as error:
            remedy = "start the cluster, then rerun the same command to resume"
            raise EnvironmentFailed(f"the Ray cluster failed: {first_line(error)}", _named(address), remedy) from error
        finally:
            ray.shutdown()


def _check_listening(address: str | None) -> None:
    """Raise OSError if the address does not listen: Ray itself would retry for more than ten minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()


def first_line(error: Exception) -> str:
    """Return the essence of an error in one line; Ray's messages are long."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _named(address: str | None) -> str:
    return "--execution ray" if address is None else f"--ray-address {address}"


@contextmanager
def _search_path() -> Iterator[None]:
    """Return the environment of a private cluster, so that its workers can import what this process can."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *filter(None, sys.path)])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def _ended_with_us() -> Iterator[None]:
    """Ensure that the processes of a private cluster end soon after this one."""
    if not hasattr(os, "pidfd_open"):
        yield
        return
    # The kernel ends only direct children with a command, and the agents of a cluster are grandchildren.
    processes = [str(number) for number in _children(os.getpid()) if number != os.getpid()]
    watcher = [sys.executable, "-IS", str(Path(__file__).with_name("kill_after_parent.py")), *processes]
    with subprocess.Popen(watcher, stdin=subprocess.PIPE):  # its input ends with the block or with this process
        yield


def _children(process: int) -> Iterator[int]:
    """Return a process and all its descendants."""
    yield process
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for child in path.read_text().split():
                yield from _children(int(child))


def _sent(modules: Iterable[str]) -> list[str]:
    """Our package and the top-level packages or files of `modules`, as paths."""
    paths = [str(_ROOT / "scripts")]
    for name in sorted({module.partition(".")[0] for module in modules} - {"scripts"}):
        module = importlib.import_module(name)
        paths.append(str(module.__path__[0]) if hasattr(module, "__path__") else str(module.__file__))
    return paths
