"""TLS after PS3.15 B.12 (BCP 195: RFC 8996 and RFC 9325): 1.2 or newer, forward secrecy, authenticated encryption."""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

from converter.errors import ConfigurationError

__all__ = ["Certificates", "refused_for", "server_context"]

logger = logging.getLogger("converter.listener")
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
    """The context in force; files are read again when they change.

    `fault` says why a change cannot be used; empty where what the files hold is in force.
    """

    def __init__(self, certificate: str, key: str, ca: str) -> None:
        self._files = (certificate, key, ca)
        self._seen = self._look()
        self._context = server_context(*self._files)
        self.fault = ""

    def _look(self) -> tuple[tuple[int, int], ...]:
        return tuple(_mark(name) for name in self._files)

    def context(self) -> ssl.SSLContext:
        """Give the context for a new connection; a change that cannot be used is passed over."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._context = server_context(*self._files)
                self.fault = ""
            except ConfigurationError as error:
                self.fault = str(error)
        return self._context

    def watch(self) -> None:
        """Say once that a change cannot be used, and once when it can: for one process of several."""
        before = self.fault
        self.context()
        if self.fault and not before:
            logger.error(
                "%s What was in force before stays so, its authorities included; put the files right.",
                self.fault,
            )
        elif before and not self.fault:
            logger.warning("TLS: the changed files are in force.")


_WHY = {
    9: "is not valid yet",
    10: "has expired",
    26: "is not made for who opens a connection (clientAuth)",
}
"""What OpenSSL's codes say of a certificate, where it is not that nobody vouches for it."""
_PLAIN = {"HTTP_REQUEST", "WRONG_VERSION_NUMBER", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL"}


def refused_for(error: ssl.SSLError) -> str:
    """Why a handshake failed, in words of ours and names of OpenSSL's: nothing that the peer sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if why := _WHY.get(error.verify_code):
            return f"its certificate {why}"
        return "no authority of tls_ca vouches for its certificate"
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "it shows no certificate"
    if error.reason in _PLAIN:
        return "it does not speak TLS"
    return (error.reason or "").replace("_", " ").lower()


def _mark(name: str) -> tuple[int, int]:
    """What is another one after each change, of rights too."""
    try:
        found = os.stat(name)  # noqa: PTH116
    except OSError:
        return 0, 0
    return found.st_ino, found.st_ctime_ns
