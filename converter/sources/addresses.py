"""First looks at inputs that are addresses: whether there is something, and what lies below it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from converter.errors import ConverterError, SourceError
from converter.sources.remote import failure, store_of, unreachable
from converter.sources.task import Entry, Skipped, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["below", "described", "look_at"]


def look_at(address: str) -> tuple[str, bool]:
    """Address without a slash at the end, and whether it is a folder. A DICOMDIR stands for its folder.

    Raises
    ------
    ConfigurationError
        A package is missing, or credentials are.
    SourceError
        There is nothing.
    """
    store = store_of(address)
    real = address.rstrip("/")
    if os.path.basename(real) == "DICOMDIR":
        return os.path.dirname(real), True
    folder = address.endswith("/")
    try:
        if not folder:
            return real, store.stat(real).folder
        there = next(store.listing(real), None) is not None
    except ConverterError:
        raise
    except Exception as error:
        if failure(error)[0] == "permission-denied":
            return real, folder  # reading it tells
        raise unreachable(address, error) from error
    if not there:
        raise SourceError(f"{printable(address)}: there is nothing below it")
    return real, True


def described(address: str) -> Entry | Skipped:
    """Size and version of one object."""
    try:
        stat = store_of(address).stat(address)
    except ConverterError:
        raise
    except Exception as error:  # noqa: BLE001  the boundary: libraries raise what they like
        return Skipped(printable(address), *failure(error))
    return Entry(address, stat.size, stat.version)


def below(address: str) -> Iterator[Entry | Skipped]:
    """Objects below an address, as they are listed.

    Raises
    ------
    SourceError, ConfigurationError
        The listing breaks off: what it did not come to must not be taken for gone.
    """
    found = False
    try:
        for path, stat in store_of(address).listing(address):
            found = True
            yield Entry(path, stat.size, stat.version)
    except ConverterError:
        raise
    except Exception as error:
        if not found and failure(error)[0] == "permission-denied":
            yield Skipped(printable(address), "permission-denied")
            return
        raise unreachable(address, error) from error
    if not found:
        yield Skipped(printable(address), "not-found")
