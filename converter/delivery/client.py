"""HTTP to one FHIR server: every way in which a request can end is an `Answer`, never an exception.

Connections are kept alive and shared by threads. Redirects are not followed: they could carry patients'
data and a token to another host. URLs hold identifiers of patients, so nothing here is logged, and the
loggers of the libraries are silent.
"""

from __future__ import annotations

import logging
import math
import ssl
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from converter import __version__
from converter.delivery.address import is_loopback, is_open, normalised
from converter.delivery.answers import Answer, Asked, Failure, retry_after
from converter.delivery.auth import Credentials, TokenError, credentials
from converter.delivery.secret import stamp
from converter.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx2

    from converter.settings import DestinationSettings

__all__ = ["FhirClient"]

FHIR_JSON = "application/fhir+json"
LARGEST = 256 << 20
"""Bytes of an answer that are read at most."""
LARGEST_TOKEN = 1 << 20
"""The same of an answer that is no FHIR: a token, or where to get one."""
TOKEN_TIMEOUT = 20.0
SILENT = ("httpx2", "httpcore2", "stamina")


class FhirClient:
    """Requests to one base URL.

    Parameters
    ----------
    name : str
        Name of the destination, for messages.
    settings : DestinationSettings
    timeout : float
        Seconds that a whole request may take, about.
    connections : int
    allow_http : bool
        Plain http beyond this machine.

    Raises
    ------
    ConfigurationError
        URL, certificates or credentials cannot be used.
    """

    def __init__(
        self,
        name: str,
        settings: DestinationSettings,
        *,
        timeout: float = 60.0,
        connections: int = 8,
        allow_http: bool = False,
    ) -> None:
        for library in SILENT:
            logging.getLogger(library).setLevel(logging.CRITICAL + 1)
        self.name = name
        self.base = normalised(settings.url, allow_http=allow_http)
        self.requests = 0
        self._quiet_until = 0.0
        self._quiet_status = 0
        self._settings = settings
        self._allow_http = allow_http
        self._timeout = timeout
        self._connections = connections
        self._files = tuple(
            file for file in (settings.certificate, settings.certificate_key, settings.ca) if file
        )
        if settings.token_url:
            normalised(settings.token_url, allow_http=allow_http)
        self._lock = threading.Lock()
        self._stamp = stamp(*self._files)
        self._http = self._open()
        try:
            self.credentials: Credentials = credentials(
                name, settings, self.base, self._get_plain, self._post_plain
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _open(self) -> httpx2.Client:
        import httpx2

        timeout = httpx2.Timeout(self._timeout, connect=min(10.0, self._timeout))
        limits = httpx2.Limits(
            max_connections=self._connections,
            max_keepalive_connections=self._connections,
            keepalive_expiry=15.0,
        )
        return httpx2.Client(
            verify=self.tls(),
            timeout=timeout,
            limits=limits,
            follow_redirects=False,
            # a proxy of the environment is for other machines
            trust_env=not is_loopback(urlsplit(self.base).hostname or ""),
            headers={"Accept": FHIR_JSON, "User-Agent": f"dcm2fhir/{__version__}"},
        )

    def tls(self) -> ssl.SSLContext:
        """Context of its connections.

        Raises
        ------
        ConfigurationError
            A file cannot be used.
        """
        import httpx2

        settings = self._settings
        if not self._files:
            return _system_tls()
        key = f"destinations.{self.name}"
        try:
            if settings.ca:
                context = ssl.create_default_context(cafile=settings.ca)
                # Python 3.13 refuses authorities of houses that lack what RFC 5280 wants; this one was named.
                context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            else:
                context = httpx2.create_ssl_context()
            if settings.certificate:
                context.load_cert_chain(
                    settings.certificate,
                    settings.certificate_key or None,
                    password=lambda: "",  # never ask at a terminal
                )
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"{key}: certificate, certificate_key or ca cannot be used "
                f"({getattr(error, 'reason', None) or getattr(error, 'strerror', None)})"
            ) from error
        return context

    def _current(self) -> httpx2.Client:
        """Give the connections; new ones where the certificates changed."""
        if self._files and (now := stamp(*self._files)) != self._stamp:
            with self._lock:
                if now != self._stamp:
                    try:
                        fresh = self._open()
                    except ConfigurationError:
                        return self._http  # half written: those that we have go on
                    # the old connections end with the threads that still use them
                    self._http, self._stamp = fresh, now
        return self._http

    def request(
        self,
        method: str,
        path: str,
        asked: Asked,
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; with a token that is refused, once more with a new one.

        Parameters
        ----------
        method, path : str
            The path is relative to the base URL.
        asked : str
            What it is, for `converter.delivery.answers.decide`.
        params, form : mapping, optional
            Query, or form of a ``_search``.
        body : bytes, optional
            JSON of a resource.
        headers : mapping, optional
        """
        if (left := self._quiet_until - time.monotonic()) > 0:
            # asked to be left alone while this study was on its way: that holds for all threads
            return Answer(self._quiet_status, {"retry-after": str(math.ceil(left))})
        answer = Answer(failure="connect")
        for attempt in (1, 2):
            try:
                proof = self.credentials.headers()
            except TokenError as error:
                return Answer(failure="login" if error.passing else "token")
            sent = {**(headers or {}), **proof}
            if body is not None:
                sent["Content-Type"] = FHIR_JSON
            answer = self._send(method, path, params, form, body, sent)
            if answer.failure == "broken" and attempt == 1 and asked in {"read", "search"}:
                continue  # a connection that the server had closed meanwhile
            if answer.status != 401 or attempt == 2:
                break
            self.credentials.refused(proof)
        if answer.status in {429, 503} and (asked_for := retry_after(answer.headers, time.time())):
            self._quiet_status = answer.status
            self._quiet_until = max(self._quiet_until, time.monotonic() + asked_for)
        return answer

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        form: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> Answer:
        import httpx2

        self.requests += 1
        http = self._current()
        until = time.monotonic() + self._timeout
        failure: Failure
        try:
            request = http.build_request(
                method,
                self.base + path if path.startswith("?") else f"{self.base}/{path}",
                params=params,
                data=form,
                content=body,
                headers=headers,
            )
            response = http.send(request, stream=True)
            try:
                data = _read(response, until, LARGEST)
            finally:
                response.close()
        except _TooLongError:
            failure = "timeout"
        except httpx2.TimeoutException as error:
            failure = "connect" if isinstance(error, httpx2.ConnectTimeout) else "timeout"
        except httpx2.ConnectError as error:
            failure = "tls" if _of_tls(error) else "connect"
        except httpx2.ProxyError:
            failure = "connect"
        except httpx2.HTTPError:
            failure = "broken"
        else:
            if 300 <= response.status_code < 400 and response.status_code != 304:
                return Answer(response.status_code, failure="redirect")
            return Answer(
                response.status_code,
                {name.lower(): value for name, value in response.headers.items()},
                _object(data),
                empty=not data.strip(),
            )
        return Answer(failure=failure)

    # what is no FHIR: token endpoints and discovery

    def _get_plain(self, url: str) -> tuple[int, bytes]:
        return self._plain("GET", url)

    def _post_plain(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        return self._plain("POST", url, form, headers)

    def _plain(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        import httpx2
        import stamina

        if not self._allow_http and is_open(url):  # the server named it, nobody configured it
            return 400, b""
        patience = min(TOKEN_TIMEOUT, 2 * self._timeout)
        try:
            for attempt in stamina.retry_context(
                on=httpx2.TransportError, attempts=3, timeout=patience, wait_initial=0.2
            ):
                with attempt:
                    http = self._current()
                    until = time.monotonic() + patience
                    request = http.build_request(
                        method,
                        url,
                        data=form,
                        headers={**(headers or {}), "Accept": "application/json"},
                        timeout=patience / 2,
                    )
                    response = http.send(request, stream=True)
                    try:
                        data = _read(response, until, LARGEST_TOKEN)
                    finally:
                        response.close()
        except (httpx2.HTTPError, httpx2.InvalidURL, _TooLongError):
            return 0, b""
        return response.status_code, data


@cache
def _system_tls() -> ssl.SSLContext:
    """Certificates of the system; reading them takes a while."""
    import httpx2

    return httpx2.create_ssl_context()


class _TooLongError(Exception):
    pass


def _read(response: httpx2.Response, until: float, most: int) -> bytes:
    """Read a body, bounded in size and time: a server that dribbles would hold us for ever."""
    parts: list[bytes] = []
    size = 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > most or time.monotonic() > until:
            raise _TooLongError
    return b"".join(parts)


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        held = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return held if isinstance(held, dict) else None


def _of_tls(error: BaseException) -> bool:
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ssl.SSLError):
            return True
        link = link.__cause__ or link.__context__
    return False
