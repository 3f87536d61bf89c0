"""A site's own extensions are known by the rules that make them."""

from __future__ import annotations

from converter.fhir.declared import declared_extensions
from converter.fhir.definitions import ExtensionDefinition, load_extensions
from converter.fhir.shipped import shipped_checker
from tests.core.making import converted, overlaid

RULES = """
[ImagingStudy]
"extension:fixed" = { const = [{ url = "https://a.example/fixed", valueCode = "x" }] }
[ImagingStudy."extension:deep"]
url = { const = "https://a.example/deep" }
[ImagingStudy."extension:deep"."extension:part"]
url = { const = "part" }
valueString = { from = "ProtocolName", required = true }
[ImagingStudy.series."modifierExtension:hidden"]
url = { const = "https://a.example/hidden" }
valueBoolean = { const = true }
"""


def test_what_rules_make_is_defined_by_what_it_holds():
    declared = declared_extensions(overlaid(RULES).resources.values())
    assert declared == {
        "https://a.example/fixed": ExtensionDefinition(value=("Code",)),
        "https://a.example/deep": ExtensionDefinition(nested=("part",)),
        "https://a.example/hidden": ExtensionDefinition(value=("Boolean",), modifier=True),
    }


def test_a_study_with_them_is_as_good_as_one_without():
    """Else whoever adds an extension could claim no profile any more."""
    rules = overlaid(RULES)
    made = converted({"ProtocolName": "Thorax"}, rules=rules).resource
    known = shipped_checker((), declared_extensions(rules.resources.values()))
    assert "unknown-extension" not in [issue.code for issue in known.check(made)]
    assert "unknown-extension" in [issue.code for issue in shipped_checker(()).check(made)]


def test_a_published_extension_stays_what_it_is():
    url = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
    checker = shipped_checker((), {url: ExtensionDefinition(value=("String",))})
    held = {"resourceType": "Patient", "_birthDate": {"extension": [{"url": url, "valueString": "x"}]}}  # fmt: skip
    assert "extension-value" in [issue.code for issue in checker.check(held)]
    assert load_extensions()[url].value != ("String",)
