"""Where a study store is: a file, or a PostgreSQL database by its URL."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from converter.errors import ConfigurationError

__all__ = ["ServerPlace", "StatePlace", "is_url", "place_of"]

SCHEMES = ("postgresql://", "postgres://")
PASSWORD_FILE = "PGPASSWORD_FILE"  # noqa: S105  the name of a variable
_SECRETS = {"password", "sslpassword", "passfile"}


class ServerPlace(NamedTuple):
    """A PostgreSQL database: everything that libpq needs but the password."""

    url: str

    def __str__(self) -> str:
        """The URL: it holds no secret (`place_of`)."""
        return self.url


StatePlace: TypeAlias = Path | ServerPlace


def is_url(text: str) -> bool:
    """Whether a ``--state`` names a database server."""
    return text.startswith(SCHEMES)


def place_of(text: str) -> StatePlace:
    """Read a ``--state``.

    Raises
    ------
    ConfigurationError
        The URL is none, of something else than PostgreSQL, or a password stands in it: command lines and configuration files are read by others.
    """
    if not is_url(text):
        if other := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text):
            raise ConfigurationError(
                f"--state: {other[1]}:// is not known; name a file, or postgresql://USER@HOST/DATABASE"
            )
        return Path(text)
    try:
        parts = urlsplit(text)
        secret = parts.password is not None or _SECRETS & {
            name for name, _ in parse_qsl(parts.query, keep_blank_values=True)
        }
    except ValueError:
        raise ConfigurationError("--state: that is no PostgreSQL URL") from None
    if secret:
        raise ConfigurationError(
            "--state: no password stands in the URL, where others see it. Give it by PGPASSWORD, by "
            f"PGPASSFILE, or by the name of a file that holds it: {PASSWORD_FILE}."
        )
    return ServerPlace(text)


def password() -> str | None:
    """Password of ``PGPASSWORD_FILE``; libpq looks for those of ``PGPASSWORD`` and ``PGPASSFILE`` itself.

    Raises
    ------
    ConfigurationError
        The file cannot be read.
    """
    name = os.environ.get(PASSWORD_FILE)
    if not name:
        return None
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{PASSWORD_FILE}: cannot read {name}") from error
