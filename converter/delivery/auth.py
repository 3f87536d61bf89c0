"""Who we say we are: bearer, basic, OAuth 2.0 client credentials, SMART Backend Services.

OAuth 2.0: RFC 6749 section 4.4. SMART Backend Services: SMART App Launch 2.2, "Backend Services" and
"Client Authentication: Asymmetric" (``private_key_jwt``, RS384 or ES384).
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import orjson

from converter.delivery.secret import Secret
from converter.errors import ConfigurationError

if TYPE_CHECKING:
    from converter.settings import DestinationSettings

__all__ = [
    "Basic",
    "Bearer",
    "ClientCredentials",
    "Credentials",
    "Nobody",
    "TokenError",
    "credentials",
]

LEEWAY = 30.0
"""Seconds before its end that a token is no longer used."""
ASSERTION_LIFE = 240
"""Seconds; SMART allows five minutes at most."""
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
DEFAULT_SCOPE = "system/ImagingStudy.crus system/Patient.crus"

Post = Callable[[str, Mapping[str, str], Mapping[str, str]], tuple[int, bytes]]
"""(URL, form, headers) to (status, body); status 0 where nothing answered."""
Get = Callable[[str], tuple[int, bytes]]


class TokenError(Exception):
    """No token: ``passing`` where it may come later, else the credentials are not taken."""

    def __init__(self, *, passing: bool) -> None:
        self.passing = passing
        super().__init__("the token endpoint did not answer" if passing else "no token was given")


class Credentials(Protocol):
    """What a request is sent with."""

    def headers(self) -> dict[str, str]:
        """Headers of the next request; may ask for a token.

        Raises
        ------
        TokenError
        """

    def refused(self, headers: Mapping[str, str]) -> None:
        """Take note that a request with these headers was answered 401."""


class Nobody:
    """No credentials, or those of the TLS layer alone."""

    def headers(self) -> dict[str, str]:
        """None."""
        return {}

    def refused(self, headers: Mapping[str, str]) -> None:
        """Nothing can be renewed."""


class Bearer(Nobody):
    """A token that somebody else puts into a file."""

    def __init__(self, token: Secret) -> None:
        self._token = token

    def headers(self) -> dict[str, str]:
        """Give the token as it stands in its file now."""
        return {"Authorization": f"Bearer {self._token.read()}"}


class Basic(Nobody):
    """Name and password (RFC 7617)."""

    def __init__(self, username: str, password: Secret) -> None:
        self._username = username
        self._password = password

    def headers(self) -> dict[str, str]:
        """Give both, encoded."""
        return {"Authorization": _basic(self._username, self._password.read())}


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class ClientCredentials:
    """Tokens of a token endpoint, one for all threads, renewed before they end.

    Parameters
    ----------
    form : callable
        Gives (form, headers) of a token request to an endpoint.
    endpoint : callable
        Gives the URL of the token endpoint.
    post : callable
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        form: Callable[[str], tuple[dict[str, str], dict[str, str]]],
        endpoint: Callable[[], str],
        post: Post,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._form = form
        self._endpoint = endpoint
        self._post = post
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0

    def headers(self) -> dict[str, str]:
        """Give a token that is good for a while."""
        with self._lock:
            if not self._token or self._clock() >= self._until:
                self._fetch()
            return {"Authorization": f"Bearer {self._token}"}

    def refused(self, headers: Mapping[str, str]) -> None:
        """Forget the token, unless another thread has a new one already."""
        with self._lock:
            if headers.get("Authorization") == f"Bearer {self._token}":
                self._token = ""

    def _fetch(self) -> None:
        url = self._endpoint()
        form, headers = self._form(url)
        status, body = self._post(url, form, headers)
        if status in {0, 429} or status >= 500:
            raise TokenError(passing=True)
        try:
            answer = orjson.loads(body)
            token, life = answer["access_token"], float(answer.get("expires_in") or 300)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            token, life = "", 0.0
        if status != 200 or not token or not isinstance(token, str):
            raise TokenError(passing=False)
        self._token = token
        self._until = self._clock() + max(life - LEEWAY, life / 2)


def credentials(
    name: str, settings: DestinationSettings, base: str, get: Get, post: Post
) -> Credentials:
    """Make the credentials of a destination.

    Parameters
    ----------
    name : str
        Name of the destination, for messages.
    settings : DestinationSettings
    base : str
        Base URL of the server, for SMART discovery.
    get, post : callable
        How token and discovery endpoints are asked.

    Raises
    ------
    ConfigurationError
        Something that the kind of authentication needs is missing.
    """
    key = f"destinations.{name}"
    kind = settings.auth
    if kind == "none" and (settings.token or settings.token_file):
        kind = "bearer"
    if kind == "bearer":
        return Bearer(Secret(f"{key}.token", settings.token, settings.token_file))
    if kind == "basic":
        _needs(key, kind, username=settings.username)
        return Basic(
            settings.username, Secret(f"{key}.password", settings.password, settings.password_file)
        )
    if kind == "oauth2":
        _needs(key, kind, token_url=settings.token_url, client_id=settings.client_id)
        secret = Secret(f"{key}.client_secret", settings.client_secret, settings.client_secret_file)
        return ClientCredentials(
            lambda _: _oauth2(settings, secret), lambda: settings.token_url, post
        )
    if kind == "smart":
        _needs(key, kind, client_id=settings.client_id, key_file=settings.key_file)
        private = Secret(f"{key}.key", "", settings.key_file)
        assertion(settings, private, "https://check.invalid")  # a bad key is told at start
        return ClientCredentials(
            lambda url: _smart(settings, private, url),
            lambda: settings.token_url or _discover(base, get),
            post,
        )
    return Nobody()


def _needs(key: str, kind: str, **values: str) -> None:
    for name, value in values.items():
        if not value:
            raise ConfigurationError(f'{key}.{name}: auth = "{kind}" needs it')


def _oauth2(settings: DestinationSettings, secret: Secret) -> tuple[dict[str, str], dict[str, str]]:
    form = {"grant_type": "client_credentials", **_target(settings)}
    if settings.audience:
        form["audience"] = settings.audience
    if settings.client_auth == "post":
        return {**form, "client_id": settings.client_id, "client_secret": secret.read()}, {}
    return form, {"Authorization": _basic(settings.client_id, secret.read())}


def _target(settings: DestinationSettings, scope: str = "") -> dict[str, str]:
    asked = {"scope": settings.scope or scope, "resource": settings.resource}
    return {name: value for name, value in asked.items() if value}


def _smart(
    settings: DestinationSettings, private: Secret, url: str
) -> tuple[dict[str, str], dict[str, str]]:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion(settings, private, url),
        **_target(settings, DEFAULT_SCOPE),
    }
    return form, {}


def assertion(settings: DestinationSettings, private: Secret, url: str) -> str:
    """Sign the assertion that stands for a client secret.

    Raises
    ------
    ConfigurationError
        The key cannot be used.
    """
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, RSAKey

    text = private.read()
    at = f"{settings.key_file}: "
    try:
        key = _key(text, settings.key_id)
    except (JoseError, ValueError, TypeError, KeyError, StopIteration):
        # from None: the message of a parser may show the key
        raise ConfigurationError(f"{at}is no private key in PEM or JWK form") from None
    if not key.is_private:
        raise ConfigurationError(f"{at}is a public key; the private one is needed")
    kind = "ES384" if isinstance(key, ECKey) else "RS384" if isinstance(key, RSAKey) else ""
    if not kind or (settings.algorithm and settings.algorithm != kind):
        raise ConfigurationError(f"{at}is no key for {settings.algorithm or 'RS384 or ES384'}")
    if isinstance(key, ECKey) and key.curve_name != "P-384":
        raise ConfigurationError(f"{at}ES384 needs a key on the curve P-384")
    now = int(time.time())
    claims = {
        "iss": settings.client_id,
        "sub": settings.client_id,
        "aud": settings.audience or url,
        "exp": now + ASSERTION_LIFE,
        "iat": now,
        "jti": str(uuid4()),
    }
    header = {"alg": kind, "typ": "JWT", "kid": settings.key_id or key.kid or key.thumbprint()}
    return jwt.encode(header, claims, key, algorithms=[kind])


def _key(text: str, key_id: str) -> Any:
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, JWKRegistry, RSAKey

    if text.startswith("{"):
        held = orjson.loads(text)
        keys = held.get("keys", [held])
        chosen = next(key for key in keys if not key_id or key.get("kid") in {key_id, None})
        return JWKRegistry.import_key(chosen)
    try:
        return RSAKey.import_key(text)
    except (JoseError, ValueError, TypeError):
        return ECKey.import_key(text)


def _discover(base: str, get: Get) -> str:
    """Token endpoint that the server names (SMART ``.well-known/smart-configuration``)."""
    status, body = get(f"{base}/.well-known/smart-configuration")
    if status in {0, 429} or status >= 500:
        raise TokenError(passing=True)
    try:
        return str(orjson.loads(body)["token_endpoint"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise TokenError(passing=False) from None
