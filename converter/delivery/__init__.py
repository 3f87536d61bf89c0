"""Delivery to a FHIR server: idempotent, and never less than what stands there."""
