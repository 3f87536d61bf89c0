"""Who may send what."""

from __future__ import annotations

import pytest

from converter.errors import ConfigurationError
from converter.listener.policy import (
    VERIFICATION,
    Context,
    Peer,
    Policy,
    acceptable,
    certificate_names,
    networks,
    refuse_exposure,
    storable,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
PRIVATE = "1.2.246.352.70.1.70"
IMPLICIT, EXPLICIT, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
)


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.4.5.6", "::1", "localhost"])
def test_loopback_needs_no_list(bind):
    refuse_exposure(bind, Policy(), mutual_tls=False, open_=False)


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "10.1.2.3", "", "pacs.example.org"])
def test_beyond_loopback_somebody_must_say_who_may_send(bind):
    with pytest.raises(ConfigurationError, match="--allow-ip"):
        refuse_exposure(bind, Policy(), mutual_tls=False, open_=False)
    with pytest.raises(ConfigurationError):
        refuse_exposure(bind, Policy(calling=("CT1",)), mutual_tls=False, open_=False)
    refuse_exposure(bind, Policy(addresses=("10.0.0.0/8",)), mutual_tls=False, open_=False)
    refuse_exposure(bind, Policy(), mutual_tls=True, open_=False)
    refuse_exposure(bind, Policy(), mutual_tls=False, open_=True)


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("10.1.2.3", True),
        ("10.1.3.3", False),
        ("192.168.7.7", True),
        ("::ffff:10.1.2.9", True),
        ("2001:db8::1", True),
        ("fe80::1%eth0", False),
        ("nonsense", False),
    ],
)
def test_addresses_are_held_against_networks(address, admitted):
    policy = Policy(addresses=("10.1.2.0/24", "192.168.7.7", "2001:db8::/32"))
    assert policy.admits(address) is admitted


def test_without_a_list_every_address_is_admitted():
    assert Policy().admits("203.0.113.9")


@pytest.mark.parametrize("text", ["10.1.2.3/24", "10.1.2", "pacs", ""])
def test_a_network_that_is_none_is_an_error_of_the_configuration(text):
    with pytest.raises(ConfigurationError):
        networks([text])


def test_the_called_title_is_asked_for_only_if_told():
    assert Policy().rejects("OTHER", "CT1", "::1", None) is None
    rejection = Policy(require_called=True).rejects("OTHER", "CT1", "::1", None)
    assert rejection[:3] == (1, 1, 7)
    assert Policy(require_called=True).rejects("DCM2FHIR  ", "CT1", "::1", None) is None


def test_the_calling_title_is_held_against_the_list():
    policy = Policy(calling=("CT1", "MR1"))
    assert policy.rejects("X", " CT1 ", "::1", None) is None
    assert policy.rejects("X", "CT2", "::1", None)[:3] == (1, 1, 3)


def test_a_named_peer_is_bound_to_its_address():
    policy = Policy(peers=(Peer("ct", ("CT1",), ("10.0.0.5",)),))
    assert policy.rejects("X", "CT1", "10.0.0.5", None) is None
    assert policy.rejects("X", "CT1", "10.0.0.6", None)[:3] == (1, 1, 3)
    assert policy.rejects("X", "ELSE", "10.0.0.5", None)[:3] == (1, 1, 3)


def test_a_named_peer_is_bound_to_its_certificate():
    policy = Policy(calling=("MR1",), peers=(Peer("ct", ("CT1",), certificate="ct1.example"),))
    assert policy.rejects("X", "CT1", "::1", ("ct1.example",)) is None
    assert policy.rejects("X", "CT1", "::1", ("mr1.example",))[:3] == (1, 1, 3)
    assert policy.rejects("X", "CT1", "::1", None)[:3] == (1, 1, 3)
    assert policy.rejects("X", "MR1", "::1", None) is None


def test_authority_goes_by_peer():
    policy = Policy(
        peers=(
            Peer("ris", ("RIS",), ("10.1.0.0/16",), authoritative=True),
            Peer("ris-of-others", ("RIS",)),
        )
    )
    assert policy.peer("RIS ", "10.1.2.3", None) == "ris"
    assert policy.authoritative("ris")
    # the same title from elsewhere is another sender
    assert policy.peer("RIS", "10.2.2.3", None) == "ris-of-others"
    assert not policy.authoritative("ris-of-others")
    assert policy.peer("CT1", "10.1.2.3", None) == ""
    assert not policy.authoritative("")


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        (CT, "yes"),
        ("1.2.840.10008.5.1.4.1.1.9999", "yes"),
        ("1.2.840.10008.5.1.4.34.7", "yes"),
        ("1.2.840.10008.5.1.4.1.1.200.2", "yes"),
        ("1.2.840.10008.5.1.4.1.1.200.1", "no"),
        ("1.2.840.10008.5.1.4.1.1.200.4", "no"),
        ("1.2.840.10008.5.1.4.1.1.201.1", "no"),
        ("1.2.840.10008.5.1.4.1.2.2.1", "no"),
        ("1.2.840.10008.1.20.1", "no"),
        (PRIVATE, "private"),
        ("../../etc/passwd", "no"),
        ("1." + "2" * 70, "no"),
        ("", "no"),
    ],
)
def test_storage_classes(uid, expected):
    assert storable(uid) == expected


def test_what_is_supported_comes_from_the_proposals():
    proposed = [
        (CT, [DEFLATED, EXPLICIT]),
        (VERIFICATION, [IMPLICIT]),
        (CT, [IMPLICIT, "1.2.840.10008.1.2.6.1"]),
        (PRIVATE, [IMPLICIT]),
        ("1.2.840.10008.5.1.4.1.2.2.1", [IMPLICIT]),
        ("1.2.840.10008.5.1.4.1.1.4", ["1.2.840.113619.5.2"]),
    ]
    assert acceptable(proposed, accept_private=False) == [
        Context(CT, (EXPLICIT, IMPLICIT, DEFLATED)),
        Context(VERIFICATION, (IMPLICIT,)),
    ]
    assert Context(PRIVATE, (IMPLICIT,)) in acceptable(proposed, accept_private=True)


def test_names_of_a_certificate():
    certificate = {
        "subject": ((("countryName", "GB"),), (("commonName", "ct1"),)),
        "subjectAltName": (("DNS", "ct1.example"), ("IP Address", "10.0.0.5")),
    }
    assert certificate_names(certificate) == ("ct1", "ct1.example")
    assert certificate_names({}) is None
    assert certificate_names(None) is None
