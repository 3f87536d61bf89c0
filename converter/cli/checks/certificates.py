"""Certificates and keys: are they readable, do they belong together, how long do they hold."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from converter.cli.checks.finding import CONFIGURATION, Finding, lasted
from converter.listener.tls import server_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from converter.cli.checks.finding import SetUp

__all__ = ["SOON", "files", "of_listener", "runs_out"]

SOON = timedelta(days=30)
"""Time before its end at which a certificate is worth a word."""
Span = tuple[datetime, datetime]


def of_listener(setup: SetUp) -> Iterator[Finding]:
    """TLS of `listen`."""
    held = setup.daemon
    if not held.tls_cert:
        yield Finding("ok", "not used by listen: senders speak plain DICOM")
        return
    server_context(held.tls_cert, held.tls_key, held.tls_ca)
    key = held.tls_key or held.tls_cert
    told = f"{held.tls_cert} and its key fit"
    told += f", peers need a certificate of {held.tls_ca}" if held.tls_ca else ""
    yield Finding("ok", told)
    yield from files("listen.tls_", {"cert": held.tls_cert, "ca": held.tls_ca}, key)


def files(at: str, named: dict[str, str], key: str) -> Iterator[Finding]:
    """How long the certificates in some files hold, and who may read a key."""
    now = datetime.now(UTC)
    for name, path in named.items():
        if path:
            spans = _spans(Path(path))
            # of several authorities one that has run out is missed by nobody but those that it signed
            yield from runs_out(f"{at}{name}: {path}", spans, now)
    if key and stat.S_IMODE(Path(key).stat().st_mode) & 0o077:
        yield Finding("warning", f"others may read the key {key}", f"chmod 0600 {key}")


def _spans(path: Path) -> Sequence[Span]:
    """Validity of each certificate of a file."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        return ()
    return [(one.not_valid_before_utc, one.not_valid_after_utc) for one in found]


def runs_out(what: str, spans: Sequence[Span], now: datetime) -> Iterator[Finding]:
    """Say which of several certificates hold no more, not yet, or not for long."""
    fix = "have a new one issued, and put it in its place: it is read again by itself"
    over = [end for _, end in spans if end <= now]
    early = [begin for begin, _ in spans if begin > now]
    soon = [end for begin, end in spans if begin <= now < end <= now + SOON]
    several = f"{len(over)} of {len(spans)} certificates " if len(spans) > 1 else ""
    if over:
        useless = len(over) == len(spans)
        told = f"{what}: {several}ran out {_ago(now - max(over))}"
        yield Finding(
            "problem" if useless else "warning", told, fix, CONFIGURATION if useless else 0
        )
    if early:
        told = f"{what}: holds only from {min(early):%Y-%m-%d %H:%M} UTC on"
        yield Finding(
            "problem", told, "look at the clock of this machine (timedatectl)", CONFIGURATION
        )
    if soon:
        end = min(soon)
        told = f"{what}: runs out in {lasted((end - now).total_seconds())} ({end:%Y-%m-%d})"
        yield Finding("warning", told, fix)


def _ago(span: timedelta) -> str:
    return f"{lasted(span.total_seconds())} ago"
