"""Run directory on object storage: worked on locally, published during the work."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from scripts.errors import EnvironmentFailed, HyperError, Interrupted
from scripts.storage.durable_files import environment_errors, sha256
from scripts.storage.remote.bucket import Bucket, Version
from scripts.storage.remote.lease import Lease
from scripts.storage.remote.manifest import MANIFEST, OBJECTS, Entry, Manifest, has_plain_name, read_manifest
from scripts.storage.remote.snapshot import Frozen, freeze
from scripts.storage.remote.threads import in_parallel
from scripts.storage.remote.working_copy import WorkingCopy
from scripts.storage.retry import Unreachable, retry_until_available
from scripts.storage.run_dir import InUse, RunDir

PUBLISH_EVERY_S = 30.0
INTERRUPTED_S = 1.2  # for the last publication of a command that was asked to end


class RemoteRunDir:
    """Leased prefix and its working directory.

    Parameters
    ----------
    copy : WorkingCopy
        Held by this process.
    notify : callable
        Takes lines for people.
    """

    def __init__(self, bucket: Bucket, copy: WorkingCopy, notify: Callable[[str], None]) -> None:
        self._bucket, self._copy, self._notify = bucket, copy, notify
        self._lease = Lease(bucket, copy.name, notify)
        self._manifest: Manifest | None = None
        self._version: Version = {}
        self._tried: set[str] = set()  # manifests that may have arrived, though no answer came back
        self._by_name: dict[str, Entry] = {}  # contents of the objects with plain names
        self._garbage: set[str] = set()
        self._publishing: threading.Thread | None = None
        self._next, self._numbers, self._trouble = 0.0, itertools.count(), ""

    def begin(self) -> None:
        """Take the lease and fetch the contents of the prefix, unless this machine has them or continues from them.

        Raises
        ------
        InUse
            Another command has the lease.
        HyperError
            As `Bucket` and `WorkingCopy`.
        """
        unclean = self._lease.take()
        try:
            retry_until_available(lambda: self._begin(unclean), self._bucket, self._notify)
        except BaseException as ended:
            _within(self._lease.release, INTERRUPTED_S if isinstance(ended, Interrupted) else None)
            raise
        self._next = time.monotonic() + PUBLISH_EVERY_S

    def publish_if_due(self, at_once: bool = False, without: Collection[Path] = ()) -> None:
        """Publish in the background if due; called while nothing is being written.

        Parameters
        ----------
        at_once : bool
            Publish now and wait for it, as long as for any server that is away.
        without : collection of Path
            Folders that others write to meanwhile; what was published of them stays as it is.

        Raises
        ------
        EnvironmentFailed
            Another start has taken the place of this one, or the server is away for too long (`at_once`).
        """
        self._lease.check()
        busy = self._publishing is not None and self._publishing.is_alive()
        if not at_once and (busy or time.monotonic() < self._next):
            return
        if self._publishing is not None:
            self._publishing.join()
        # Frozen first: training continues, and changes files while their earlier contents are sent.
        frozen, snapshot_dir = self._freeze(without)
        if at_once:
            retry_until_available(lambda: self._publish(frozen), self._bucket, self._notify)
            shutil.rmtree(snapshot_dir, ignore_errors=True)
        else:
            self._publishing = threading.Thread(target=self._in_background, args=(frozen, snapshot_dir), daemon=True)
            self._publishing.start()
        self._next = time.monotonic() + PUBLISH_EVERY_S

    def close(self, within_s: float | None = None) -> None:
        """Publish what is left and let go of the prefix.

        Parameters
        ----------
        within_s : float or None
            Seconds after which to leave it unpublished, for the next command on this machine; None waits.

        Raises
        ------
        HyperError
            Publishing failed; everything is in the working directory.
        """

        def finish() -> None:
            self.publish_if_due(at_once=True)
            with contextlib.suppress(Unreachable):
                self._lease.release()

        done, error = _within(finish, within_s)
        if not done:
            self._notify(f"note: {self._bucket} is incomplete; rerun the same command on this machine to resume")
        elif isinstance(error, HyperError):
            what = f"{error.what}; everything is kept in {self._copy.run}"
            raise type(error)(what, error.where, error.remedy)
        elif error is not None:
            raise error

    def _begin(self, unclean: bool) -> None:
        found = read_manifest(self._bucket)
        self._manifest, self._version = found if found is not None else (None, {})
        before = self._manifest.nonce if self._manifest is not None else None
        follows = self._copy.follows(before)
        if self._manifest is not None:
            self._by_name = {} if unclean else {n: e for n, e in self._manifest.files.items() if has_plain_name(n)}
        if unclean:
            # A previous holder may still be alive: its next manifest must not follow the present one.
            self._replace_manifest(dict(self._manifest.files) if self._manifest is not None else {}, from_here=follows)
            self._garbage |= set(self._bucket.names(OBJECTS)) - self._objects()
        if not follows:
            gone = found is None  # deleted by hand: the files of this machine are backed up
            self._copy.fetch(self._bucket, self._manifest or Manifest({}), self._notify, keeps=gone)
        self._copy.at(self._manifest)
        with environment_errors(self._copy.run):
            self._copy.run.mkdir(parents=True, exist_ok=True)

    def _freeze(self, without: Collection[Path] = ()) -> tuple[dict[str, Frozen], Path]:
        snapshot_dir = self._copy.folder / "frozen" / str(next(self._numbers))
        known = {name: known.stamp for name, known in self._copy.known.items()}
        frozen = freeze(self._copy.run, snapshot_dir, known, without)
        for name, kept in known.items():
            if any((self._copy.run / name).is_relative_to(folder) for folder in without):
                frozen[name] = Frozen(kept, None, 0)
        return frozen, snapshot_dir

    def _in_background(self, frozen: dict[str, Frozen], snapshot_dir: Path) -> None:
        try:
            self._publish(frozen)
        except (Unreachable, HyperError) as error:
            if not self._trouble:
                self._notify(f"note: cannot publish to {self._bucket} ({error}); work continues, with retries")
            self._trouble = str(error)
        else:
            if self._trouble:
                self._notify(f"note: published to {self._bucket} again")
            self._trouble = ""
        finally:
            shutil.rmtree(snapshot_dir, ignore_errors=True)

    def _publish(self, frozen: dict[str, Frozen]) -> None:
        """Contents first, then the manifest, then what follows from it. May be repeated after any error."""
        there, sent = self._objects(), set[str]()

        def send(item: tuple[str, Frozen]) -> tuple[str, Entry]:
            name, one = item
            if one.path is None:
                return name, self._copy.known[name].entry
            with environment_errors(one.path), open(one.path, "rb") as file:
                content = file.read(one.size)
            entry = Entry(sha256(content), len(content))
            if entry.object_name not in there | sent:
                # Garbage until a manifest names it: a command that ends before that leaves it for the next clean-up.
                self._garbage.add(entry.object_name)
                self._bucket.write(entry.object_name, content)
                sent.add(entry.object_name)
            return name, entry

        files = dict(in_parallel(send, frozen.items()))
        if files != (self._manifest.files if self._manifest is not None else {}):
            self._replace_manifest(files)
        if self._manifest is not None:
            self._copy.note(self._manifest, {name: one.stamp for name, one in frozen.items()})
            self._clean_up(self._manifest)

    def _replace_manifest(self, files: dict[str, Entry], from_here: bool = True) -> None:
        """Publish what is there or, if not `from_here`, once more what was; EnvironmentFailed if another start has."""
        now, before = self._manifest, self._objects()
        manifest = Manifest(files) if now is None else Manifest(files, now.generation + 1)
        self._tried.add(manifest.nonce)
        if from_here:
            self._copy.trying(manifest)
        content = manifest.packed()
        if now is None:
            version = self._bucket.create(MANIFEST, content)
        else:
            version = self._bucket.replace(MANIFEST, content, self._version)
        if version is None:
            # Another manifest is there: of another start, or ours, if the answer to an earlier request was lost. The
            # random nonce decides, because the generation numbers of two starts can be equal.
            found = read_manifest(self._bucket)
            if found is None or found[0].nonce not in self._tried:
                what = "another start of a command has published here meanwhile"
                raise EnvironmentFailed(what, str(self._bucket), "wait for it, then rerun the same command to resume")
            self._manifest, self._version = found
            self._garbage |= before
            raise Unreachable("an earlier answer was lost")  # it is ours: once more, from there
        self._manifest, self._version, self._tried = manifest, version, set()
        self._garbage = (self._garbage | before) - self._objects()

    def _clean_up(self, manifest: Manifest) -> None:
        """Remove contents that no file has any more, and bring the objects with plain names up to date."""
        # Only after the manifest: a reader of the previous one must find all its contents until then.
        self._bucket.remove(self._garbage - self._objects())
        self._garbage = set()
        wanted = {name: entry for name, entry in manifest.files.items() if has_plain_name(name)}
        changed = [(name, entry) for name, entry in wanted.items() if self._by_name.get(name) != entry]
        in_parallel(lambda item: self._bucket.copy(item[1].object_name, item[0]), changed)
        self._bucket.remove(self._by_name.keys() - wanted.keys())
        self._by_name = wanted

    def _objects(self) -> set[str]:
        return {entry.object_name for entry in self._manifest.files.values()} if self._manifest is not None else set()


def _within(call: Callable[[], None], seconds: float | None) -> tuple[bool, Exception | None]:
    """Return whether a call ended within some seconds, and its error; a longer call continues in the background."""
    errors: list[Exception] = []

    def work() -> None:
        try:
            call()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive(), errors[0] if errors else None


@contextlib.contextmanager
def mirrored(url: str, only_reads: bool, notify: Callable[[str], None]) -> Iterator[tuple[Path, RemoteRunDir | None]]:
    """Yield the local run directory of the URL `url`, leased and published; it is only fetched if it is only read.

    Raises
    ------
    HyperError
        As `RemoteRunDir`.
    """
    bucket = Bucket(url)
    copy = WorkingCopy(bucket)
    with environment_errors(copy.folder):
        copy.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(RunDir(copy.folder).locked())
        except InUse as error:
            if not only_reads:
                raise InUse(error.what, bucket.url, error.remedy) from None
            yield copy.run, None  # as it is at this moment
            return
        copy.load()
        shutil.rmtree(copy.folder / "frozen", ignore_errors=True)
        if only_reads:
            retry_until_available(lambda: _refresh(bucket, copy, notify), bucket, notify)
            yield copy.run, None
            return
        mirror = RemoteRunDir(bucket, copy, notify)
        mirror.begin()
        with _closing(mirror, notify):
            yield copy.run, mirror


def _refresh(bucket: Bucket, copy: WorkingCopy, notify: Callable[[str], None]) -> None:
    """Bring the working directory to the present manifest without a lease; another command may remove contents."""
    found = read_manifest(bucket)
    if found is None or copy.follows(found[0].nonce):
        copy.run.mkdir(parents=True, exist_ok=True)
        return
    try:
        copy.fetch(bucket, found[0], notify)
    except HyperError:
        # Without a lease, the contents of the manifest may be removed while they are fetched. That is an error only if
        # the manifest is still the same.
        now = read_manifest(bucket)
        if now is None or now[0].nonce == found[0].nonce:
            raise
        raise Unreachable("the next generation was published meanwhile") from None


@contextlib.contextmanager
def _closing(mirror: RemoteRunDir, notify: Callable[[str], None]) -> Iterator[None]:
    """Close the mirror however the block ends; its own error is the one that counts."""
    try:
        yield
    except BaseException as ended:
        try:
            mirror.close(INTERRUPTED_S if isinstance(ended, Interrupted) else None)
        except HyperError as error:
            notify(f"note: {error}")
        raise
    mirror.close()
