"""``dcm2fhir config``: the configuration in force, its faults, and a file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from converter.cli.common import Command, configuration, option, verbosity
from converter.cli.output import table
from converter.errors import ConfigurationError, MappingError

__all__ = ["config"]

CONFIG = option(
    "--config",
    "config_file",
    metavar="FILE",
    help="Configuration file (default: dcm2fhir.toml here, in $XDG_CONFIG_HOME/dcm2fhir or in /etc/dcm2fhir).",
)


@click.group()
def config() -> None:
    """Show, check and start the configuration."""


@config.command(
    cls=Command,
    examples="""
    dcm2fhir config show
    DCM2FHIR_CONVERT__PROFILE=ips dcm2fhir config show --changed
    """,
)
@CONFIG
@option("--changed", is_flag=True, help="Only what differs from the default.")
@verbosity
def show(config_file: str | None, changed: bool, **_: Any) -> None:
    """Print every key with value and origin; secrets are masked.

    Order of precedence: flag, environment (DCM2FHIR_SECTION__KEY), file, default.
    """
    from converter.config import settings_of

    loaded = configuration(config_file, {})
    rows = [
        (setting.key, _written(setting.value), setting.origin)
        for setting in settings_of(loaded)
        if not changed or setting.origin != "default"
    ]
    table(("key", "value", "origin"), rows)


@config.command(cls=Command, examples="dcm2fhir config check --config site/dcm2fhir.toml")
@CONFIG
@verbosity
def check(config_file: str | None, **_: Any) -> None:
    """Read the configuration, the profiles and mappings that it names, and tell all faults; exit 3 if there is one."""
    loaded = configuration(config_file, {})
    from converter.cli.refusals import (
        destination_faults,
        listen_faults,
        mapping_faults,
        missing_files,
    )

    faults = mapping_faults(loaded) + missing_files(loaded) + destination_faults(loaded)
    faults += listen_faults(loaded)
    if faults:
        raise MappingError(faults)
    where = str(loaded.file) if loaded.file else "no configuration file, defaults only"
    click.echo(f"ok: {where}")


@config.command(cls=Command, examples="dcm2fhir config init dcm2fhir.toml")
@click.argument("file", type=click.Path(path_type=Path), default="dcm2fhir.toml")
@verbosity
def init(file: Path, **_: Any) -> None:
    """Write a commented configuration file to start from (default: dcm2fhir.toml here; '-' is standard output)."""
    write_new(file, TEMPLATE, "take away the # before what you set, then: dcm2fhir config check")


def write_new(file: Path, text: str, then: str) -> None:
    """Write a file that must not stand there yet, and say what to do then; ``-`` is standard output."""
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise ConfigurationError(f"{file} stands there already; name another file") from error
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}") from error
    click.echo(f"wrote {file}: {then}")


def _written(value: Any) -> str:
    import msgspec

    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return ", ".join(value)
    if value is None or value == {}:
        return ""
    return msgspec.json.encode(value).decode()


TEMPLATE = """\
# Configuration of dcm2fhir. Every key can be left out; a commented key shows its default or an example.
# Order of precedence: flag, environment (DCM2FHIR_CONVERT__PROFILE=uk-core,ips), this file, default.
# Paths are relative to this file. `dcm2fhir config check` tells every fault, `config show` every value.

[convert]
# output = "fhir"                     # folder, file, or "-" for standard output
# to = ["main"]                       # FHIR servers: base URLs, or names of [destinations] below
# format = "json"                     # json, ndjson, bundle
# bundle_type = "transaction"         # transaction, batch, collection
# bundle_method = "put"                # put, create (ifNoneExist)
# max_bundle_entries = 0              # of one bundle in a folder; 0: 100. A file holds one bundle
# max_file_size = "256MiB"            # of one file in an NDJSON folder
# profile = ["uk-core", "ips"]        # r4, uk-core, ips, or a file such as "./site.toml"
# patient = "resource"                # resource, reference, logical, contained
# companions = false                  # make Encounter, ServiceRequest, Practitioner ... as resources
# instances = "all"                   # "all", "none", or a number
# mappings = "mappings"               # folder with overlays of the site
# state = "run.db"                    # keep the study store; or postgresql://user@host/database
# report = "report.json"
# redact_paths = false
# ignore_changed = false
# strict = false
# jobs = 0                            # 0: as many as the machine has cores
# modality = ["CT", "MR"]
# study_uid = []
# include = ["*.dcm"]
# exclude = []
# ownership = "merge"                 # merge, replace
# prune = false
# engine = ""                         # dask, ray: read on a cluster; empty: on this machine
# engine_address = ""
# progress = "auto"                   # auto, never

[delivery]
# deliver_timeout = "10m"             # how long a run goes on trying
# workers = 8                         # studies at the same time
# patient_lookup = "off"              # off, create, hold
# link_orders = false
# allow_http = false                  # plain http beyond this machine
# request_timeout = "60s"
# lease = "10m"
# retry_base = "1s"
# retry_cap = "5m"
# probe_every = "5m"

# [destinations.main]
# url = "https://fhir.hospital.example/r4"
# profile = ["uk-core"]               # without it: those of the run
# auth = "smart"                      # none, bearer, basic, oauth2, smart
# token_file = "token"                # bearer
# username = "dcm2fhir"               # basic
# password_file = "password"
# token_url = "https://login.hospital.example/token"
# client_id = "dcm2fhir"              # oauth2, smart
# client_secret_file = "secret"
# client_auth = "basic"               # basic, post
# key_file = "smart.pem"              # smart: PEM or JWK, for RS384 or ES384
# key_id = ""
# algorithm = "RS384"
# scope = "system/ImagingStudy.crus system/Patient.crus"
# audience = ""
# resource = ""
# certificate = "client.pem"          # mutual TLS
# certificate_key = "client.key"
# ca = "ca.pem"                       # in place of the system's certificates
# max_body = "10MiB"                  # a larger body is not sent

[listen]
# ae_title = "DCM2FHIR"
# port = 11112                        # 0: a free one
# bind = "127.0.0.1"
# allow_calling_aet = ["CT1"]         # empty: any
# allow_ip = ["10.1.2.0/24"]          # empty: any that may connect
# require_called_aet = false
# open = false                        # listen beyond this machine without allow_ip or tls_ca
# accept_private = false              # private SOP classes as well
# receivers = 0                       # 0: one a core, four at most
# quiet_period = "60s"                # a study is published when nothing came for so long,
# quiet_cap = "15m"                   # at the latest so long after its first change
# max_associations = 100
# max_associations_per_address = 50
# max_pdu = 131072
# max_message = "4GiB"                # of one object
# network_timeout = "60s"             # silence after which an association is ended
# tls_cert = "listen.pem"
# tls_key = "listen.key"
# tls_ca = "peers.pem"                # each peer must show a certificate that one of these signed
# http_port = 8080                    # /livez, /readyz and /metrics, on 127.0.0.1
# state = "listen.db"                 # or postgresql://user@host/database; default: listen.db in $XDG_STATE_HOME/dcm2fhir
# journal = "journal"                 # default: journal in $XDG_STATE_HOME/dcm2fhir
# keep_headers = false                # whole headers up to the pixel data
# keep_files = "files"                # whole objects as files, pixel data included: patient data
# disk_reserve = "1GiB"               # with less free space nothing is taken
# backlog_limit = "4GiB"              # of what is received and not yet taken in
# drain_timeout = "30s"
# success_status = "0x0000"           # 0x0000, 0xB006

# [listen.peers.ct1]
# ae_titles = ["CT1"]
# addresses = ["10.1.2.3"]            # that these titles may come from; empty: any that may connect
# certificate = "ct1.hospital.example"  # name in the certificate that these titles need (mutual TLS)
# authoritative = false               # its PatientID ends a conflict of patients without an operator
# timezone = "Europe/Lisbon"          # of its objects that state no offset; empty: that of [site]
# charset = "ISO_IR 100"              # of its objects that state none; empty: that of [site]
# issuer = "HOSPITAL-B"               # IssuerOfPatientID of its objects that state none: see [site.patient.issuers]

[log]
# format = "text"                     # text, json

[identity]
# key_file = "identity.key"           # makes the ids of persons unguessable; at least 16 characters

[site]
# timezone = "Europe/London"          # of studies that state no offset (0008,0201); without it: date only
# charset = "ISO_IR 100"              # of objects with non-ASCII text that state none
# keep_fractions = false              # fractions of a second
# sct_display = false                 # displays beside SNOMED CT codes
# service_request_status = "unknown"  # of a ServiceRequest: DICOM states none

[site.patient]
# system = "https://hospital.example/mrn"   # of a PatientID that states no issuer
# type = "MR"
# name_use = "usual"                  # "" for none
# subject = "Patient"                 # Patient, or Device for quality control studies (Device is not IPS)

# IssuerOfPatientID as it stands in the DICOM, or what its universal id makes of it (such as "urn:oid:2.999.1.2"),
# and what it means
# [site.patient.issuers.NHS]
# system = "https://fhir.nhs.uk/Id/nhs-number"
# type = "NH"
# check = "nhs-number"

[site.accession]
# system = "https://hospital.example/accession"
# assigner_system = "https://fhir.nhs.uk/Id/ods-organization-code"
# assigner_value = "RXX"
# assigner_display = "Example Hospital"

[site.encounter]
# system = "https://hospital.example/visit"
# missing = "omit"                    # omit, data-absent-reason
# status = "finished"                 # an Encounter resource is made only where both are set: DICOM has neither
# encounter_class = { system = "http://terminology.hl7.org/CodeSystem/v3-ActCode", code = "AMB", display = "ambulatory" }

[site.organization]
# system = "https://fhir.nhs.uk/Id/ods-organization-code"
# value = "RXX"
# name = "Example Hospital"

[site.endpoint]
# wado_rs = "https://pacs.hospital.example/dicom-web"
# viewer = "https://viewer.hospital.example/?study={StudyInstanceUID}"
# name = "PACS"

[site.rejection_notes]                # what a note of each title does: "apply", or "ignore"
# safety = "apply"                    # Rejected for Patient Safety Reasons (113037, DCM)
# worklist = "apply"                  # Incorrect Modality Worklist Entry (113038, DCM)
# quality = "apply"                   # Rejected for Quality Reasons (113001, DCM)
# retention = "apply"                 # Data Retention Policy Expired (113039, DCM)

[site.practitioner_systems]
# "99LOCAL" = "https://hospital.example/staff"

[site.order_systems]
# "RIS" = "https://hospital.example/order"

[site.coding_schemes]
# "99LOCAL" = "https://hospital.example/codes"
"""
