"""Prefix of a bucket on S3 or Google Cloud Storage: whole objects, conditional writes, one-line errors."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar

from scripts.errors import InputError
from scripts.storage.artifacts import MAX_JSON_BYTES
from scripts.storage.remote.aws_profile import aws_profile
from scripts.storage.retry import Unreachable

T = TypeVar("T")
Version = dict[str, str]  # identifies one content of an object

_URL = re.compile(r"(s3|gs)://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])(?:/([A-Za-z0-9._=/-]*))?\Z")
_CLIENT: Any = {"connect_timeout": "5s", "timeout": "10m", "read_timeout": "30s"}
_RETRIES = {"max_retries": 1, "retry_timeout": timedelta(seconds=10)}  # those who wait for a server wait themselves
_REGION = re.compile("incorrectly configured region|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation")
_METADATA = re.compile(r"169\.254\.\d|metadata\.google\.internal|\[fd00:ec2::254\]")
_RIGHTS = "check endpoint and credentials, and that they may get, put, list and delete objects there"
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login",
}


class Bucket:
    """Objects under a prefix; every method is one request, or several that may be repeated.

    Parameters
    ----------
    url : str
        s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.

    Attributes
    ----------
    url : str
        In one form.
    endpoint : str
        Address of the server where it is none of AWS or Google; empty otherwise.

    Raises
    ------
    InputError
        By every method: wrong address, missing bucket, package or right.
    Unreachable
        By every method: no answer, or none that settles it; the call may be repeated.
    """

    def __init__(self, url: str) -> None:
        if (found := _URL.match(url)) is None or any(part in ("", ".", "..") for part in _parts(found[3])):
            remedy = "write s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, of letters, digits, dots, dashes and slashes"
            raise InputError("is not a URL of a run directory", url, remedy)
        self.scheme, name = found[1], found[2]
        prefix = "/".join(_parts(found[3]))
        self.url = f"{self.scheme}://{name}" + (f"/{prefix}" if prefix else "")
        self._name = f"{self.scheme}://{name}"
        self.endpoint = _endpoint() if self.scheme == "s3" else ""
        self._store = self._call(lambda: _store(self.scheme, name, prefix, self.endpoint))

    def __str__(self) -> str:
        return self.url

    def read(self, name: str, limit: int) -> tuple[bytes, Version] | None:
        """Return content and version of an object of at most `limit` bytes; None if there is none.

        Raises
        ------
        InputError
            It is larger, of which nothing is fetched.
        """

        def get() -> tuple[bytes, Version]:
            got = self._store.get(name)
            if got.meta["size"] > limit:
                raise InputError(f"is larger than {limit} bytes", f"{self.url}/{name}", "choose another --run-dir")
            return bytes(got.bytes()), _version(got.meta)

        try:
            return self._call(get, missing_is_error=False)
        except FileNotFoundError:
            return None

    def create(self, name: str, content: bytes) -> Version | None:
        """Make an object that is not there yet; None if there is another one."""
        return self._put_if(name, content, "create")

    def replace(self, name: str, content: bytes, version: Version) -> Version | None:
        """Replace an object; None if its version has changed."""
        return self._put_if(name, content, version)

    def write(self, name: str, content: bytes) -> None:
        """Make or replace an object, in one step."""
        self._call(lambda: self._store.put(name, content))

    def copy(self, source: str, target: str) -> None:
        """Make or replace `target` by `source`, without sending it again."""
        self._call(lambda: self._store.copy(source, target))

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are left out."""
        if gone := list(names):
            self._call(lambda: self._store.delete(gone))

    def names(self, folder: str = "") -> list[str]:
        """Names of all objects, or those in a folder and its own folders."""
        listed: list[str] = self._call(lambda: [one["path"] for part in self._store.list(folder) for one in part])
        return listed

    def _put_if(self, name: str, content: bytes, mode: Any) -> Version | None:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            return _version(self._call(lambda: self._store.put(name, content, mode=mode)))
        except (AlreadyExistsError, PreconditionError):
            # A repeated request whose first answer was lost meets its own content.
            found = self.read(name, MAX_JSON_BYTES)
            return found[1] if found is not None and found[0] == content else None

    def _call(self, request: Callable[[], T], missing_is_error: bool = True) -> T:
        """Return the result of a request, and convert its errors to those of this class."""
        try:
            from obstore import exceptions
        except ImportError:
            remedy = "run .venv/bin/pip install -r requirements/distributed.txt"
            raise InputError("is not installed", "obstore", remedy) from None
        try:
            return request()
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            raise
        except FileNotFoundError as error:
            if missing_is_error or "NoSuchBucket" in str(error):
                raise InputError("bucket not found", self._name, "create it, or correct --run-dir") from None
            raise
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise InputError(f"access refused ({_reason(error)})", self.url, _RIGHTS) from None
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._specific(error) from None

    def _specific(self, error: Exception) -> Exception:
        """Return the specific error behind a generic one."""
        text = str(error)
        if _METADATA.search(text) or "credential" in text.lower():
            return InputError("no credentials were found", self.url, _CREDENTIALS[self.scheme])
        if _REGION.search(text):
            return InputError("the bucket is in another region", self.url, "set AWS_REGION to its region")
        if re.search(r"status code: 4(?!08|09|29)\d\d", text) or "builder error" in text:
            return InputError(f"the request was refused ({_reason(error)})", self.url, _RIGHTS)
        return Unreachable(_reason(error))


def _parts(prefix: str | None) -> list[str]:
    return prefix.rstrip("/").split("/") if prefix and prefix.rstrip("/") else []


def _store(scheme: str, name: str, prefix: str, endpoint: str) -> Any:
    from obstore.store import GCSStore, S3Store

    options: Any = {"retry_config": _RETRIES, "prefix": prefix or None}
    if scheme == "gs":
        return GCSStore(name, client_options=_CLIENT, **options)
    profile: Any = aws_profile()
    if not any(variable in os.environ for variable in ("AWS_REGION", "AWS_DEFAULT_REGION")):
        profile.setdefault("region", "us-east-1")
    client = _CLIENT | {"allow_http": endpoint.startswith("http://")}
    return S3Store(name, client_options=client, config=profile, **options)


def _endpoint() -> str:
    named = [os.environ.get(variable, "") for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")]
    return next(filter(None, named), "") or aws_profile().get("endpoint", "")


def _version(result: Any) -> Version:
    return {key: result[key] for key in ("e_tag", "version") if result.get(key) is not None}


def _reason(error: Exception) -> str:
    """Return the essence of a long message: the code of the server, its status, or the error of the connection."""
    first = str(error).partition("\n\n")[0]
    if found := re.search(r"<Code>(\w+)</Code>", first) or re.search(r"status code: (\d+ [A-Za-z ]+)", first):
        return found[1].strip()
    return " ".join(first.rpartition(" - ")[2].split())[:120]
