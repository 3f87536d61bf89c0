"""The sections of a configuration file, but for ``[site]``, which is `converter.core.site.Site`.

Every default stands here and nowhere else.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

import msgspec

from converter.core.site import Site

__all__ = [
    "Config",
    "ConvertSettings",
    "DeliverySettings",
    "DestinationSettings",
    "IdentitySettings",
    "ListenSettings",
    "LogSettings",
    "PeerSettings",
    "parse_duration",
    "parse_size",
]

UNITS = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TB": 10**12,
    "TiB": 2**40,
}

MOST_RECEIVERS = 64

FilePath: TypeAlias = Annotated[str, msgspec.Meta(extra={"path": True})]
Secret: TypeAlias = Annotated[str, msgspec.Meta(extra={"secret": True})]
Size: TypeAlias = Annotated[str, msgspec.Meta(extra={"size": True})]
Duration: TypeAlias = Annotated[str, msgspec.Meta(extra={"duration": True})]
Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
NotNegative: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class ConvertSettings(_Settings, frozen=True):
    """``[convert]``: each key is the option of `dcm2fhir convert` with that name."""

    output: FilePath = ""
    to: tuple[str, ...] = ()
    """Base URLs, or names of ``[destinations]``."""
    format: Literal["json", "ndjson", "bundle"] = "json"
    bundle_type: Literal["transaction", "batch", "collection"] = "transaction"
    bundle_method: Literal["put", "create"] = "put"
    max_bundle_entries: NotNegative = 0
    """Of a Bundle in a folder; 0: 100. A file or standard output holds one Bundle."""
    max_file_size: Size = ""
    profile: tuple[str, ...] = ("r4",)
    patient: Literal["resource", "reference", "logical", "contained"] = "resource"
    companions: bool = False
    instances: Positive | Literal["all", "none"] = "all"
    modality: tuple[str, ...] = ()
    study_uid: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    redact_paths: bool = False
    ignore_changed: bool = False
    mappings: FilePath = ""
    state: FilePath = ""
    report: FilePath = ""
    strict: bool = False
    jobs: NotNegative = 0
    """0: as many as the machine has cores."""
    engine: Literal["", "dask", "ray"] = ""
    """Cluster that reads; empty: this machine."""
    engine_address: str = ""
    progress: Literal["auto", "never"] = "auto"
    ownership: Literal["merge", "replace"] = "merge"
    prune: bool = False


class DeliverySettings(_Settings, frozen=True):
    """``[delivery]``: how FHIR servers are written to."""

    deliver_timeout: Duration = "10m"
    """How long a run goes on trying."""
    workers: Positive = 8
    """Requests at the same time, of all destinations together."""
    patient_lookup: Literal["off", "create", "hold"] = "off"
    link_orders: bool = False
    allow_http: bool = False
    """Plain http beyond this machine."""
    request_timeout: Duration = "60s"
    lease: Duration = "10m"
    retry_base: Duration = "1s"
    retry_cap: Duration = "5m"
    probe_every: Duration = "5m"


class DestinationSettings(_Settings, frozen=True):
    """``[destinations.NAME]``: a FHIR server that ``--to NAME`` means."""

    url: str = ""
    profile: tuple[str, ...] = ()
    """Profiles of this destination; without any those of the run."""
    auth: Literal["none", "bearer", "basic", "oauth2", "smart"] = "none"
    token_file: FilePath = ""
    token: Secret = ""
    username: str = ""
    password_file: FilePath = ""
    password: Secret = ""
    token_url: str = ""
    """Token endpoint; for SMART it is asked of the server where it is not set."""
    client_id: str = ""
    client_secret_file: FilePath = ""
    client_secret: Secret = ""
    client_auth: Literal["basic", "post"] = "basic"
    """How the secret is sent to the token endpoint (RFC 6749 section 2.3.1)."""
    scope: str = ""
    audience: str = ""
    """``audience`` of a token request (OAuth 2.0); for SMART the ``aud`` of the assertion."""
    resource: str = ""
    """``resource`` of a token request (RFC 8707)."""
    key_file: FilePath = ""
    """Private key of SMART Backend Services: PEM or JWK."""
    key_id: str = ""
    algorithm: Literal["", "RS384", "ES384"] = ""
    certificate: FilePath = ""
    """Client certificate (mutual TLS), PEM."""
    certificate_key: FilePath = ""
    ca: FilePath = ""
    """Certificates that the server's is checked against, in place of the system's."""
    max_body: Size = ""
    """Largest body that the server takes; a larger one is not sent."""


class PeerSettings(_Settings, frozen=True):
    """``[listen.peers.NAME]``: a sender."""

    ae_titles: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    """Addresses or networks that these titles may come from; empty: any that may connect."""
    certificate: str = ""
    """Common name or DNS name of the certificate that these titles need (mutual TLS)."""
    authoritative: bool = False
    """Whether a PatientID of this sender ends a conflict of patients without an operator."""
    timezone: str = ""
    """IANA zone of its objects that state no offset; empty: the site's."""
    charset: str = ""
    """SpecificCharacterSet of its objects that state none; empty: the site's."""
    issuer: str = ""
    """IssuerOfPatientID of its objects that state none; its system stands in ``[site.patient.issuers]``."""


class ListenSettings(_Settings, frozen=True):
    """``[listen]``: each key is the option of `dcm2fhir listen` with that name; what is made of studies is ``[convert]``."""

    ae_title: str = "DCM2FHIR"
    port: NotNegative = 11112
    bind: str = "127.0.0.1"
    allow_calling_aet: tuple[str, ...] = ()
    allow_ip: tuple[str, ...] = ()
    require_called_aet: bool = False
    open: bool = False
    accept_private: bool = False
    receivers: Annotated[int, msgspec.Meta(ge=0, le=MOST_RECEIVERS)] = 0
    """0: one a core, four at most."""
    quiet_period: Duration = "60s"
    quiet_cap: Duration = "15m"
    max_associations: Positive = 100
    max_associations_per_address: Positive = 50
    max_pdu: Annotated[int, msgspec.Meta(ge=4096, le=16777216)] = 131072
    max_message: Size = "4GiB"
    """Bytes of one object; beyond, the association is aborted."""
    network_timeout: Duration = "60s"
    """Silence after which an association is ended."""
    tls_cert: FilePath = ""
    tls_key: FilePath = ""
    tls_ca: FilePath = ""
    http_port: NotNegative = 8080
    state: FilePath = ""
    """State file; default listen.db in $XDG_STATE_HOME/dcm2fhir."""
    journal: FilePath = ""
    keep_headers: bool = False
    """Keep whole headers up to the pixel data, for changes of the mapping that read more."""
    keep_files: FilePath = ""
    """Folder for whole objects as files, pixel data included."""
    disk_reserve: Size = "1GiB"
    backlog_limit: Size = "4GiB"
    """Bytes of journals that the store has not taken in; beyond, objects are refused."""
    drain_timeout: Duration = "30s"
    success_status: Literal["0x0000", "0xB006"] = "0x0000"
    peers: dict[str, PeerSettings] = {}


class IdentitySettings(_Settings, frozen=True):
    """``[identity]``."""

    key: Secret = ""
    """Makes person ids unguessable; only from the environment."""
    key_file: FilePath = ""
    """File that holds the key."""


class LogSettings(_Settings, frozen=True):
    """``[log]``."""

    format: Literal["text", "json"] = "text"


class Config(_Settings, frozen=True):
    """A whole configuration."""

    convert: ConvertSettings = ConvertSettings()
    delivery: DeliverySettings = DeliverySettings()
    destinations: dict[str, DestinationSettings] = {}
    identity: IdentitySettings = IdentitySettings()
    listen: ListenSettings = ListenSettings()
    log: LogSettings = LogSettings()
    site: Site = Site()


def parse_size(text: str) -> int:
    """Bytes of a size such as ``64MiB``; decimal (``MB``) and binary (``MiB``) units.

    Raises
    ------
    ValueError
        The text is no size.
    """
    match = re.fullmatch(r"([0-9]{1,15}) ?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB|)", text)
    if match is None:
        raise ValueError(f"{text!r} is no size; sizes are written as 64MiB")
    return int(match[1]) * UNITS[match[2]]


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``90s``, ``15m`` or ``2h``.

    Raises
    ------
    ValueError
        The text is no duration.
    """
    match = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h|d)", text)
    if match is None:
        raise ValueError(f"{text!r} is no duration; durations are written as 90s, 15m, 2h or 90d")
    return int(match[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[match[2]]
