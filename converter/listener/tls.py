"""TLS after PS3.15 B.12 (BCP 195: RFC 8996 and RFC 9325): 1.2 or newer, forward secrecy, authenticated encryption."""

from __future__ import annotations

import ssl
from pathlib import Path

from converter.errors import ConfigurationError

__all__ = ["Certificates", "server_context"]

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(certificate: str, key: str, ca: str) -> ssl.SSLContext:
    """Make the context of a server; with ``ca`` it asks each peer for a certificate.

    Raises
    ------
    ConfigurationError
        A file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, key or None)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"TLS: {certificate} and the key in {key or 'it'} cannot be used: "
            + (
                "the key is that of another certificate."
                if error.reason == "KEY_VALUES_MISMATCH"
                else "one is no PEM, or the key has a passphrase."
            )
        ) from error
    except OSError as error:
        raise _unreadable(certificate, key) from error
    try:
        if ca:
            context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise ConfigurationError(f"TLS: {ca} holds no certificate (PEM).") from error
    except OSError as error:
        raise _unreadable(ca) from error
    if ca:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _unreadable(*names: str) -> ConfigurationError:
    """Which file it is: the system's own error names none."""
    for name in filter(None, names):
        try:
            with Path(name).open("rb"):
                pass
        except OSError as error:
            return ConfigurationError(f"TLS: {name} cannot be read ({error.strerror}).")
    return ConfigurationError(f"TLS: {' and '.join(filter(None, names))} cannot be read.")


class Certificates:
    """The context in force; files are read again when they change."""

    def __init__(self, certificate: str, key: str, ca: str) -> None:
        self._files = (certificate, key, ca)
        self._seen = self._look()
        self._context = server_context(*self._files)

    def _look(self) -> tuple[int, ...]:
        return tuple(
            Path(name).stat().st_mtime_ns if name and Path(name).exists() else 0
            for name in self._files
        )

    def context(self) -> ssl.SSLContext:
        """Give the context for a new connection; a change that cannot be used is passed over."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._context = server_context(*self._files)
            except ConfigurationError:
                return self._context
        return self._context
