"""Edited artifacts with a valid digest: whoever can write a file can also make its SHA-256."""

import json

import torch

from scripts.storage.artifacts import pack_tensors
from scripts.storage.durable_files import sha256


def edit_json(path, change):
    """Apply `change` to the content of a JSON artifact, and sign it again."""
    body = json.loads(path.read_bytes())
    del body["sha256"]
    body = change(body) or body
    path.write_bytes(signed_json(json.dumps(body, indent=1, ensure_ascii=False)))


def signed_json(text):
    """Bytes of a JSON artifact whose content is `text`."""
    content = text.removesuffix("\n}").encode()
    return content + b',\n"sha256": "' + sha256(content).encode() + b'"\n}\n'


def edit_tensors(path, change):
    """Apply `change` to the content of a tensor artifact, and sign it again."""
    state = torch.load(path, weights_only=True)
    state = change(state) or state
    path.write_bytes(pack_tensors(state))


def signed_tensors(archive):
    """Bytes of a tensor artifact of the archive that torch.save wrote, or of what claims to be one."""
    body = archive[:-2] + (71).to_bytes(2, "little")
    return body + b"sha256:" + sha256(body).encode()
