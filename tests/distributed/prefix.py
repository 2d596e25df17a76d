"""A run directory on object storage as its readers see it."""

import hashlib
import json

BUCKET = "hyper-tests"
MANIFEST = ".hyper/manifest.json"


class Prefix:
    """What a reader sees of a run directory."""

    def __init__(self, server, name):
        self.store, self.url = server.store(BUCKET, name), f"s3://{BUCKET}/{name}"

    def read(self, name):
        """Content of an object; None without one."""
        try:
            return bytes(self.store.get(name).bytes())
        except FileNotFoundError:
            return None

    def names(self):
        return {one["path"] for part in self.store.list() for one in part}

    def manifest(self):
        content = self.read(MANIFEST)
        return None if content is None else json.loads(content)

    def check(self):
        """Read everything that the manifest names; its generation. A newer one may have removed contents meanwhile."""
        if (manifest := self.manifest()) is None:
            return 0
        for name, entry in manifest["files"].items():
            content = self.read(f".hyper/objects/{entry['sha256']}")
            if content is None or len(content) != entry["size"] or digest(content) != entry["sha256"]:
                assert self.manifest()["nonce"] != manifest["nonce"], f"{name} is absent or differs"
                return manifest["generation"]
        return manifest["generation"]

    def fetch(self, folder):
        """All files with plain names, as a reader would fetch them."""
        for name in self.names():
            if not name.startswith(".hyper/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(self.read(name))
        return folder


def digest(content):
    return hashlib.sha256(content).hexdigest()


def another_machine(monkeypatch, tmp_path, name):
    """From now on with an empty cache."""
    monkeypatch.setenv("HYPER_CACHE", str(tmp_path / f"cache-{name}"))
