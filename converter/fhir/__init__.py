"""The FHIR side: the check, the claims, and the one importer of fhir.resources."""
