"""What is sent of a study: as it was converted, or anew from its headers."""

from __future__ import annotations

from types import SimpleNamespace

from converter.delivery.rendering import StoreRenderer

OTHER = SimpleNamespace(fingerprint="other", rules=None, options=None)


def test_a_study_whose_headers_are_gone_is_sent_as_it_was_converted_whatever_its_destination_asks(
    box,
):
    body = box.convert("1.2.3.1")
    rendered = StoreRenderer(box.store, lambda _: OTHER)("1.2.3.1", "somewhere")
    assert rendered.resource == body
    assert [one["resourceType"] for one in rendered.companions] == ["Patient"]
    assert StoreRenderer(box.store, lambda _: OTHER)("1.2.3.2", "somewhere") is None
