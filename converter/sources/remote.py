"""Inputs that are addresses: object stores and web servers, through fsspec, which is imported only then.

Credentials come from where each library looks for them (environment, its own files, the machine's role) and never
from us. What an address may hold of them is shown nowhere.
"""

from __future__ import annotations

import errno
import os
import re
from datetime import datetime
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from converter.errors import ConfigurationError, SourceError, UnreachableSourceError, needs_extra
from converter.sources.task import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PartOf", "Stat", "Store", "failure", "store_of", "unreachable"]

EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "azure"),
    **dict.fromkeys(("http", "https", "memory"), "remote"),
}
"""Protocols, and the extra that brings what each needs."""
VERSIONS = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)
"""Where a store says which version of an object it is, the surest first."""
TRIES = 4
TIMEOUT = 30.0


class Stat(NamedTuple):
    """What a store says of an address."""

    size: int
    """Bytes; -1 where it does not say."""
    version: int
    """A digest of what the store says of the version; -1 where it says nothing."""
    folder: bool = False


class PartOf(NamedTuple):
    """A range of an object."""

    data: bytes
    stat: Stat | None = None
    """Where the answer says it."""


def version_of(info: dict[str, Any]) -> int:
    """Digest of what a store says of the version of an object; -1 where it says nothing."""
    for name in VERSIONS:
        if said := info.get(name):
            # listings and answers write the same differently
            text = str(said.timestamp() if isinstance(said, datetime) else said)
            text = text.removeprefix("W/").strip('"')
            return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
    return -1


def failure(error: Exception) -> tuple[str, str]:
    """Reason code and detail of what went wrong; the error's own words may hold an address."""
    status = getattr(error, "status", None) or getattr(error, "status_code", None)
    if isinstance(error, FileNotFoundError) or status in {404, 410}:
        return "not-found", ""
    if isinstance(error, PermissionError) or status in {401, 403}:
        return "permission-denied", ""
    if status:
        return "read-error", f"HTTP {status}"
    number = getattr(error, "errno", None)
    return "read-error", os.strerror(number) if isinstance(number, int) else type(error).__name__


def unreachable(address: str, error: Exception) -> SourceError | ConfigurationError:
    """What to raise where an input as a whole cannot be looked at or listed."""
    shown, kind = printable(address), type(error).__name__
    if failure(error)[0] == "not-found":
        return SourceError(f"{shown}: no such object or folder")
    if "Credential" in kind:
        return ConfigurationError(
            f"{shown}: there are no credentials for it ({kind}). They are looked for in the environment and in the"
            " files of the store's own tools."
        )
    return UnreachableSourceError(f"{shown}: it does not answer ({failure(error)[1] or kind})")


@cache
def _opened(_process: int, protocol: str, options: tuple[tuple[str, Any], ...]) -> Store:
    stores = {"s3": S3, "remote": Web if protocol.startswith("http") else Store}
    # without a cache of listings, which would hold a whole bucket
    more = (
        {"use_listings_cache": False, "skip_instance_cache": True} if protocol != "memory" else {}
    )
    made = _class_of(protocol)
    try:
        system = made(**dict(options), **more)
    except Exception as error:  # each library has its own; their words may hold an account
        raise ConfigurationError(
            f"{protocol}:// cannot be opened ({type(error).__name__}): its library finds no account or no credentials,"
            " or settings that it does not know. It looks in the environment and in the files of the store's own tools."
        ) from error
    return stores.get(EXTRAS[protocol], Store)(system)


def _class_of(protocol: str) -> Any:
    try:
        import fsspec

        return fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise needs_extra(f"{protocol}://", EXTRAS[protocol]) from error


def store_of(address: str) -> Store:
    """Give the store that an address lies in, one for all threads of a process.

    Raises
    ------
    ConfigurationError
        Its package is not installed.
    SourceError
        Nobody knows the protocol, or nothing but the protocol is named.
    """
    protocol, _, rest = address.partition("://")
    if protocol not in EXTRAS:
        raise SourceError(
            f"{printable(address)}: no such protocol; inputs are files, folders, and s3://, gs://, abfs://, https://"
        )
    if rest[:1] in {"", "/"} and protocol != "memory":
        raise SourceError(f"{printable(address)}: this address names no bucket, container or host")
    options: dict[str, Any] = {}
    if EXTRAS[protocol] == "azure":  # whose addresses name the account
        options = _class_of(protocol)._get_kwargs_from_urls(address)  # noqa: SLF001
    return _opened(os.getpid(), protocol, tuple(sorted(options.items())))


class Store:
    """Any file system of fsspec."""

    def __init__(self, system: Any) -> None:
        self._system = system

    def path(self, address: str) -> str:
        """Path of an address within the file system."""
        path: str = self._system._strip_protocol(address)  # noqa: SLF001
        return path

    def stat(self, address: str) -> Stat:
        """Ask for one address; raises what the library raises."""
        info = self._system.info(self.path(address))
        return _stat(info)

    def fetch(self, address: str, start: int, size: int) -> PartOf:
        """Bytes of an object from a place on; fewer only at its end. Raises what the library raises."""
        return PartOf(self._system.cat_file(self.path(address), start=start, end=start + size))

    def listing(self, address: str) -> Iterator[tuple[str, Stat]]:
        """Objects below an address; folder by folder, so memory is bounded by the largest."""
        root = self.path(address)
        stack = [root]
        while stack:
            folder = stack.pop()
            below = []
            entries = sorted(
                (str(info["name"]).rstrip("/"), _stat(info))
                for info in self._system.ls(folder, detail=True)
                if info["type"] == "directory" or not str(info["name"]).endswith("/")
            )
            for name, stat in entries:
                if not stat.folder:
                    yield address + name[len(root) :], stat
                elif name != folder:
                    below.append(name)
            stack.extend(reversed(below))


def _stat(info: dict[str, Any]) -> Stat:
    size = info.get("size")
    return Stat(-1 if size is None else int(size), version_of(info), info["type"] == "directory")


class S3(Store):
    """S3 and what speaks like it: a flat listing, page by page, however many keys there are."""

    def listing(self, address: str) -> Iterator[tuple[str, Stat]]:
        """See `Store.listing`."""
        root = self.path(address)
        bucket, _, key = root.partition("/")
        more: dict[str, str] = {}
        while True:
            page = self._system.call_s3(
                "list_objects_v2", Bucket=bucket, Prefix=key + "/" if key else "", **more
            )
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):
                    yield (
                        address + item["Key"][len(key) + 1 if key else 0 :].join(("/", "")),
                        Stat(item["Size"], version_of(item)),
                    )
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}


class Web(Store):
    """A web server, asked for ranges; one that gives none is not read to the end."""

    def path(self, address: str) -> str:
        """See `Store.path`."""
        return address

    def stat(self, address: str) -> Stat:
        """See `Store.stat`."""
        return self._ask("HEAD", address, 0, 0).stat or Stat(-1, -1)

    def fetch(self, address: str, start: int, size: int) -> PartOf:
        """See `Store.fetch`."""
        return self._ask("GET", address, start, size)

    def listing(self, address: str) -> Iterator[tuple[str, Stat]]:
        """See `Store.listing`: nobody defines one."""
        raise SourceError(
            f"{printable(address)}: a web server has no folders; name its files with --from-file"
        )

    def _ask(self, method: str, address: str, start: int, size: int) -> PartOf:
        import aiohttp
        import stamina
        from fsspec.asyn import sync

        def transient(error: Exception) -> bool:
            status = getattr(error, "status", 503)
            return isinstance(error, (aiohttp.ClientError, TimeoutError)) and (
                status == 429 or status >= 500
            )

        result: PartOf
        for attempt in stamina.retry_context(
            on=transient, attempts=TRIES, wait_initial=0.2, wait_max=5.0
        ):
            with attempt:
                result = sync(self._system.loop, self._answer, method, address, start, size)
        return result

    async def _answer(self, method: str, address: str, start: int, size: int) -> PartOf:
        import aiohttp

        session = await self._system.set_session()
        headers = {"Accept-Encoding": "identity"}
        if method == "GET":
            headers["Range"] = f"bytes={start}-{start + size - 1}"
        limit = aiohttp.ClientTimeout(total=TIMEOUT)
        async with session.request(
            method, address, headers=headers, timeout=limit, allow_redirects=True
        ) as answer:
            if answer.status == 416:  # nothing there: RFC 9110 section 15.5.17
                return PartOf(b"", Stat(-1 if start else 0, -1))
            answer.raise_for_status()
            ranged = re.fullmatch(r"bytes \d+-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            whole = answer.headers.get("Content-Length")
            if ranged is None and start:
                raise OSError(errno.EOPNOTSUPP, "no ranges")  # a server that begins anew
            total = int(ranged[1]) if ranged else int(whole) if whole else -1
            data = bytearray()
            while (
                method == "GET"
                and len(data) < size
                and (chunk := await answer.content.read(size - len(data)))
            ):
                data += chunk
            return PartOf(bytes(data), Stat(total, version_of(_headers(answer.headers))))


def _headers(headers: Any) -> dict[str, Any]:
    return {"ETag": headers.get("ETag"), "LastModified": headers.get("Last-Modified")}
