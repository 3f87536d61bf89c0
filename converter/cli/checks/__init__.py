"""The checks of ``dcm2fhir doctor``: each looks at one part of a set-up, changes nothing, and ends no other."""
