"""Content of a run directory on object storage: what readers see, and what is refused of it."""

import json
import os
import sqlite3
import tracemalloc

import pytest

from scripts.errors import InputError
from scripts.storage.remote.bucket import Bucket
from scripts.storage.remote.lease import LOCK, MAX_LOCK_BYTES
from scripts.storage.remote.snapshot import freeze
from scripts.storage.remote.sync import mirrored
from scripts.storage.remote.working_copy import WorkingCopy
from tests.distributed.prefix import MANIFEST, another_machine, digest
from tests.distributed.s3 import MISSING

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def test_what_was_removed_or_replaced_is_so_for_readers_too(place, hurried):
    with mirrored(place.url, False, print) as (folder, mirror):
        for name in ("gone", "changed", "checkpoints/a.pt"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(name)
        mirror.publish_if_due(at_once=True)
        (folder / "gone").unlink()
        (folder / "new").write_text("changed again")
        os.replace(folder / "new", folder / "changed")
    assert place.read("gone") is None
    assert place.read("changed") == b"changed again"
    assert set(place.manifest()["files"]) == {"changed", "checkpoints/a.pt"}
    objects = {name for name in place.names() if name.startswith(".hyper/objects/")}
    assert len(objects) == 2
    assert place.read("checkpoints/a.pt") is None


def test_folders_that_others_write_to_stay_as_they_were_published(place, hurried):
    with mirrored(place.url, False, print) as (folder, mirror):
        other = folder / "placebo" / "1"
        other.mkdir(parents=True)
        (other / "one").write_text("1")
        mirror.publish_if_due(at_once=True)
        (other / "two").write_text("2")
        (other / "one").write_text("1, changed")
        (folder / "three").write_text("3")
        mirror.publish_if_due(at_once=True, without=[other])
        assert set(place.manifest()["files"]) == {"placebo/1/one", "three"}
        assert place.read("placebo/1/one") == b"1"
        mirror.publish_if_due(at_once=True)
        assert set(place.manifest()["files"]) == {"placebo/1/one", "placebo/1/two", "three"}
        assert place.read("placebo/1/one") == b"1, changed"


def test_a_damaged_object_and_a_manifest_that_leads_elsewhere_are_refused(place, hurried, tmp_path, monkeypatch):
    with mirrored(place.url, False, print) as (folder, _):
        (folder / "one").write_text("1")
    another_machine(monkeypatch, tmp_path, "second")
    name = f".hyper/objects/{digest(b'1')}"
    place.store.put(name, b"2")
    with pytest.raises(InputError, match="another SHA-256"), mirrored(place.url, False, print):
        pass
    place.store.delete(name)
    with pytest.raises(InputError, match="is missing"), mirrored(place.url, True, print):
        pass
    place.store.put(name, b"1")
    for evil in ("../../evil", "/evil", "a/../../evil", "."):
        manifest = place.manifest()
        manifest["files"] = {evil: {"sha256": digest(b"1"), "size": 1}}
        place.store.put(MANIFEST, json.dumps(manifest).encode())
        with pytest.raises(InputError, match="not a manifest"), mirrored(place.url, False, print):
            pass
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("bomb", [b"[" * 60_000, b'{"files": [' + b"[]," * 6_000_000 + b"[]]}"], ids=["deep", "wide"])
def test_what_would_take_far_more_memory_than_its_size_is_not_parsed(place, hurried, tmp_path, bomb):
    """The state in the cache is not trusted, a lock is watched as any other, a manifest is refused."""
    with mirrored(place.url, False, print) as (folder, _):
        (folder / "one").write_text("1")
    (state,) = (tmp_path / "cache").rglob("state.json")
    state.write_bytes(bomb)
    tracemalloc.start()
    WorkingCopy(Bucket(place.url)).load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20
    with mirrored(place.url, False, print) as (folder, _):
        assert (folder / "one").read_text() == "1"
    place.store.put(LOCK, bomb)
    if len(bomb) > MAX_LOCK_BYTES:
        with pytest.raises(InputError, match="larger than"), mirrored(place.url, False, print):
            pass
        place.store.delete(LOCK)
    else:
        with mirrored(place.url, False, print):
            pass
    place.store.put(MANIFEST, bomb)
    with pytest.raises(InputError, match=r"nested deeper|far more memory"), mirrored(place.url, True, print):
        pass
    place.store.delete(MANIFEST)  # both cases have one prefix


def test_an_object_larger_than_the_manifest_says_is_not_fetched(place, hurried, tmp_path, monkeypatch):
    with mirrored(place.url, False, print) as (folder, _):
        (folder / "one").write_text("1")
    another_machine(monkeypatch, tmp_path, "second")
    place.store.put(f".hyper/objects/{digest(b'1')}", bytes(2**20))
    with pytest.raises(InputError, match="larger than 1 bytes"), mirrored(place.url, True, print):
        pass


def test_a_database_is_copied_without_what_is_not_committed(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    writer = sqlite3.connect(folder / "study.db")
    writer.execute("PRAGMA journal_mode = wal")
    writer.execute("CREATE TABLE trials (number)")
    writer.executemany("INSERT INTO trials VALUES (?)", [(k,) for k in range(1000)])
    writer.commit()
    writer.execute("DELETE FROM trials")
    frozen = freeze(folder, tmp_path / "frozen", {})
    assert set(frozen) == {"study.db"}
    copied = sqlite3.connect(frozen["study.db"].path)
    assert copied.execute("SELECT count(*) FROM trials").fetchone() == (1000,)
    writer.close()


def test_a_file_that_grows_while_it_is_sent_is_sent_as_it_was(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "events.jsonl").write_text("one\n")
    frozen = freeze(folder, tmp_path / "frozen", {})["events.jsonl"]
    with open(folder / "events.jsonl", "a") as file:
        file.write("two\n")
    assert frozen.path.read_bytes()[: frozen.size] == b"one\n"
    again = freeze(folder, tmp_path / "frozen", {"events.jsonl": frozen.stamp})["events.jsonl"]
    assert again.path is not None and again.size == 8
