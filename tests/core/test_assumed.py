"""What is assumed of the sender of an object that states no character set, zone or issuer."""

from __future__ import annotations

import pytest

from converter.core.engine import Options, convert
from converter.core.examples import DEFAULTS, encode, keep
from converter.core.header import ASSUMED_CHARSET, ASSUMED_ZONE, SPECIFIC_CHARACTER_SET
from converter.core.study import assemble, pack
from converter.core.wanted import assuming
from tests.core.making import SERIES, STUDY, codes, companions, shipped_rules, with_site

MUELLER = "Müller^Jörg"


def study(*instances, rules):
    blocks = []
    for number, (attributes, more) in enumerate(instances, start=1):
        uid = f"{SERIES}.{number}"
        held = keep(encode({**DEFAULTS, "SOPInstanceUID": uid, **attributes}), rules.wanted)
        if ASSUMED_CHARSET in more:
            del held[SPECIFIC_CHARACTER_SET]
        blocks.append(pack(STUDY, SERIES, [(uid, {**held, **more}, "", [])]))
    return assemble(STUDY, blocks)


def made(*instances, **settings):
    rules = assuming(with_site(shipped_rules(), **settings))
    return convert(study(*instances, rules=rules), rules, Options(companions=True))


def zone(name):
    return {ASSUMED_ZONE: name.encode()}


WHEN = {"StudyDate": "20240712", "StudyTime": "101500"}


def test_a_time_is_of_the_zone_of_its_sender():
    assert made((WHEN, zone("Europe/Lisbon"))).resource["started"] == "2024-07-12T10:15:00+01:00"


def test_the_zone_of_the_sender_goes_before_that_of_the_site():
    found = made((WHEN, zone("Europe/Helsinki")), timezone="Europe/London")
    assert found.resource["started"] == "2024-07-12T10:15:00+03:00"
    assert made((WHEN, {}), timezone="Europe/London").resource["started"].endswith("+01:00")


def test_what_is_stated_goes_before_the_zone_of_the_sender():
    stated = {**WHEN, "TimezoneOffsetFromUTC": "-0500"}
    assert made((stated, zone("Europe/Lisbon"))).resource["started"] == "2024-07-12T10:15:00-05:00"


@pytest.mark.parametrize("turned", [False, True])
def test_two_senders_in_one_study_agree_as_two_values_do(turned):
    instances = [
        (WHEN, zone("Europe/Lisbon")),
        (WHEN, zone("Europe/Helsinki")),
        (WHEN, zone("Europe/Helsinki")),
    ]
    found = made(*(reversed(instances) if turned else instances))
    assert found.resource["started"] == "2024-07-12T10:15:00+03:00"
    assert "values-differ" in codes(found)


def test_text_is_in_the_character_set_of_its_sender_and_that_is_a_finding():
    name = {"PatientName": MUELLER}
    found = made((name, {ASSUMED_CHARSET: b"ISO_IR 192"}), charset="ISO_IR 144")
    [patient] = companions(found, "Patient")
    assert patient["name"][0]["family"] == "Müller"
    assert "charset-missing" in codes(found)


def test_a_character_set_that_is_stated_goes_before_that_of_the_sender():
    rules = assuming(shipped_rules())
    held = study(({"PatientName": MUELLER, "SpecificCharacterSet": "ISO_IR 192"}, {}), rules=rules)
    held.series[0].instances[0].block.shared[ASSUMED_CHARSET] = b"ISO_IR 144"
    found = convert(held, rules)
    [patient] = companions(found, "Patient")
    assert patient["name"][0]["family"] == "Müller"
    assert "charset-missing" not in codes(found)


def test_a_request_item_becomes_a_resource_in_the_character_set_of_the_sender():
    item = {
        "AccessionNumber": "A",
        "RequestedProcedureDescription": "Schädel",
    }
    written = {"RequestAttributesSequence": [item]}
    found = made((written, {ASSUMED_CHARSET: b"ISO_IR 192"}), charset="ISO_IR 144")
    [request] = companions(found, "ServiceRequest")
    assert "Schädel" in str(request)


def test_without_senders_the_rules_are_the_same():
    rules = shipped_rules()
    held = study((WHEN, {}), rules=rules)
    assert convert(held, assuming(rules)).resource == convert(held, rules).resource
