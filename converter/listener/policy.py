"""Who may send what: addresses, AE titles, certificates, SOP classes, transfer syntaxes.

An AE title is no authentication: anyone can claim any. So beyond loopback the daemon wants a list of addresses or
mutual TLS, unless it is told ``--open``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from converter.core.values import is_uid
from converter.errors import ConfigurationError
from converter.reading.identify import is_composite

__all__ = [
    "REJECTIONS",
    "VERIFICATION",
    "Context",
    "Peer",
    "Policy",
    "Rejection",
    "acceptable",
    "is_loopback",
    "networks",
    "refuse_exposure",
    "unsupported",
]

VERIFICATION: Final = "1.2.840.10008.1.1"

_DICOM: Final = "1.2.840.10008."
_SYNTAX: Final = re.compile(r"1\.2\.840\.10008\.1\.2(?:\.(?:1|1\.98|1\.99|2|4\.[0-9]+|5|8\.1))?")
"""Transfer syntaxes whose data set is encoded as PS3.5 section 7 says; the MIME, XML and video ones are not."""
_DEFLATED: Final = frozenset(
    {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Storable = Literal["yes", "private", "no"]


class Peer(msgspec.Struct, frozen=True):
    """One sender that the configuration names."""

    name: str
    ae_titles: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    """CIDR; empty: any that may connect at all."""
    certificate: str = ""
    """Common name, or DNS name among the alternative names, of the certificate that these titles need."""
    authoritative: bool = False
    """Whether a PatientID of this sender ends a conflict without an operator."""
    timezone: str = ""
    charset: str = ""
    issuer: str = ""
    """What is assumed of an object of this sender that states none."""


class Rejection(NamedTuple):
    """A-ASSOCIATE-RJ (PS3.8 section 9.3.4) and why, for the counters."""

    result: int
    source: int
    diagnostic: int
    reason: str


CALLED = Rejection(1, 1, 7, "called-aet")
CALLING = Rejection(1, 1, 3, "calling-aet")
FULL = Rejection(2, 3, 2, "limit")
VERSION = Rejection(1, 2, 2, "protocol-version")
APPLICATION = Rejection(1, 1, 2, "application-context")
REJECTIONS: Final = (CALLED, CALLING, FULL, VERSION, APPLICATION)
_DICOM_APPLICATION: Final = "1.2.840.10008.3.1.1.1"


class Context(NamedTuple):
    """One presentation context that a peer proposed: what of it we take."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


class Policy(msgspec.Struct, frozen=True):
    """What the daemon allows."""

    ae_title: str = "DCM2FHIR"
    require_called: bool = False
    calling: tuple[str, ...] = ()
    """Calling AE titles that are allowed; empty: any."""
    addresses: tuple[str, ...] = ()
    """CIDR networks that may connect; empty: any."""
    accept_private: bool = False
    peers: tuple[Peer, ...] = ()
    max_associations: int = 100
    max_per_address: int = 50
    max_sockets: int = 1000

    def admits(self, address: str) -> bool:
        """Whether a connection from an address is taken at all."""
        ranges = _all_networks(self)
        return not ranges or _within(address, ranges)

    def rejects(
        self, called: str, calling: str, address: str, names: Sequence[str] | None
    ) -> Rejection | None:
        """Say why an association is rejected, if it is.

        Parameters
        ----------
        called, calling : str
            AE titles, as requested.
        address : str
            Of the peer.
        names : sequence of str or None
            Names in the peer's certificate; ``None`` where it showed none.
        """
        called, calling = called.strip(), calling.strip()
        if self.require_called and called != self.ae_title.strip():
            return CALLED
        if any(calling in peer.ae_titles for peer in self.peers):
            return None if self.peer(calling, address, names) else CALLING
        allowed = {title.strip() for title in self.calling}
        titled = any(peer.ae_titles for peer in self.peers)
        return CALLING if calling not in allowed and (allowed or titled) else None

    def peer(self, calling: str, address: str, names: Sequence[str] | None) -> str:
        """Name of the peer that a sender is: the first whose title, address and certificate it has; or empty."""
        for peer in self.peers:
            if calling.strip() not in peer.ae_titles:
                continue
            if peer.addresses and not _within(address, networks(peer.addresses)):
                continue
            if peer.certificate and peer.certificate not in (names or ()):
                continue
            return peer.name
        return ""

    def bound(self, calling: str) -> bool:
        """Whether the configuration says where an AE title comes from, or with which certificate."""
        return any(calling.strip() in peer.ae_titles for peer in self.peers)

    def authoritative(self, name: str) -> bool:
        """Whether the PatientID of a peer is believed over others."""
        return any(peer.authoritative for peer in self.peers if peer.name == name)


def unsupported(version: int, application: str) -> Rejection | None:
    """Say whether a request is for another protocol: version 1 is bit 0, whatever the others say (PS3.8 Table 9-11)."""
    if not version & 1:
        return VERSION
    return APPLICATION if application != _DICOM_APPLICATION else None


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read CIDR networks.

    Raises
    ------
    ConfigurationError
        One is none.
    """
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text.strip()))
        except ValueError as error:
            raise ConfigurationError(
                f"{text!r} is no address or network such as 10.1.2.0/24 ({_why(error)})."
            ) from error
    return tuple(found)


def _why(error: ValueError) -> str:
    return "host bits are set" if "host bits" in str(error) else "not understood"


def _all_networks(policy: Policy) -> tuple[Network, ...]:
    """Addresses of the list and of the named peers; a peer without any leaves the list alone to decide."""
    texts = [*policy.addresses]
    if policy.addresses:
        texts += [address for peer in policy.peers for address in peer.addresses]
    return networks(texts)


def _within(address: str, ranges: Iterable[Network]) -> bool:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped or ip
    return any(ip in network for network in ranges if network.version == ip.version)


def is_loopback(bind: str) -> bool:
    """Whether an address to bind can be reached from this machine alone."""
    if bind == "localhost":
        return True
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return False


def refuse_exposure(bind: str, policy: Policy, *, mutual_tls: bool, open_: bool) -> None:
    """Refuse to listen beyond loopback for just anyone.

    Raises
    ------
    ConfigurationError
    """
    limited = bool(_all_networks(policy))
    if is_loopback(bind) or limited or mutual_tls or open_:
        return
    raise ConfigurationError(
        f"--bind {bind} can be reached from other machines, and nothing says who may send: name their addresses "
        "with --allow-ip, or ask for certificates with --tls-ca, or say --open if the network is trusted. "
        "(An AE title alone is no authentication.)"
    )


def storable(sop_class: str) -> Storable:
    """Whether objects of a SOP class are composite instances: standard ones, private ones, or not at all."""
    if not is_uid(sop_class) or "." not in sop_class or not is_composite(sop_class):
        return "no"
    return "yes" if sop_class.startswith(_DICOM) else "private"


def acceptable(
    proposed: Iterable[tuple[str, Sequence[str]]], *, accept_private: bool
) -> list[Context]:
    """What we support of a peer's own proposals, one entry an abstract syntax.

    The peer's order of transfer syntaxes stands, since it need not convert its first choice; deflated ones
    come last. Made from the proposals instead of from all classes and syntaxes that exist, which would cost
    a tenth of a second for each connection.
    """
    found: dict[str, dict[str, None]] = {}
    for abstract_syntax, syntaxes in proposed:
        verdict = storable(abstract_syntax)
        if abstract_syntax != VERIFICATION and (
            verdict == "no" or (verdict == "private" and not accept_private)
        ):
            continue
        held = found.setdefault(abstract_syntax, {})
        held.update(dict.fromkeys(syntax for syntax in syntaxes if _SYNTAX.fullmatch(syntax)))
    return [
        Context(name, tuple(sorted(syntaxes, key=_DEFLATED.__contains__)))
        for name, syntaxes in found.items()
        if syntaxes
    ]


def certificate_names(certificate: Mapping[str, object] | None) -> tuple[str, ...] | None:
    """Common name and DNS names of a certificate, as `ssl.SSLSocket.getpeercert` gives it."""
    if not certificate:
        return None
    names: list[str] = []
    subject = certificate.get("subject")
    if isinstance(subject, tuple):
        names += [value for part in subject for key, value in part if key == "commonName"]
    alternative = certificate.get("subjectAltName")
    if isinstance(alternative, tuple):
        names += [value for key, value in alternative if key == "DNS"]
    return tuple(names)
