"""``dcm2fhir listen``: the C-STORE daemon."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converter.cli.common import (
    Command,
    State,
    configuration,
    count_or_word,
    option,
    refusal,
    size,
    usage,
    verbosity,
)

if TYPE_CHECKING:
    from contextlib import ExitStack

    from converter.config import Loaded
    from converter.listener.starting import DaemonSettings
    from converter.pipeline import Request

__all__ = ["listen"]

DICOM = "The DICOM side"
WHO = "Who may send"
INTO = "What is made of it"
OUT = "Where it goes"
HOW = "How it runs"

EXAMPLES = """
# on this machine only, to try it: storescu 127.0.0.1 11112 scan.dcm
dcm2fhir listen -o fhir/ --quiet-period 5s
# for two modalities of a network
dcm2fhir listen -o /srv/fhir --bind 0.0.0.0 --allow-ip 10.1.2.0/24 --allow-calling-aet CT1 --allow-calling-aet MR1
# with TLS and certificates on both sides
dcm2fhir listen -o /srv/fhir --bind 0.0.0.0 -p 2762 --tls-cert cert.pem --tls-key key.pem --tls-ca peers.pem
"""

ELSEWHERE = {
    "output": "convert.output",
    "to": "convert.to",
    "profile": "convert.profile",
    "patient": "convert.patient",
    "companions": "convert.companions",
    "instances": "convert.instances",
    "mappings": "convert.mappings",
    "ownership": "convert.ownership",
    "timezone": "site.timezone",
    "log_format": "log.format",
    "allow_http": "delivery.allow_http",
    "open_": "listen.open",
}


def duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Check the value of an option that is a duration, such as ``90s``."""
    from converter.settings import parse_duration

    try:
        if value is not None:
            parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


@click.command(cls=Command, examples=EXAMPLES)
@option(
    "-aet", "--ae-title", metavar="TITLE", heading=DICOM, help="Our AE title (default DCM2FHIR)."
)
@option(
    "-p",
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    heading=DICOM,
    help="Port (default 11112); 0 asks for a free one, and the first line says which.",
)
@option(
    "--bind", metavar="ADDRESS", heading=DICOM, help="Address to listen on (default 127.0.0.1)."
)
@option(
    "--max-pdu",
    type=click.IntRange(4096, 16777216),
    metavar="BYTES",
    heading=DICOM,
    help="Largest PDU that we take (default 131072).",
)
@option(
    "--accept-private",
    is_flag=True,
    default=None,
    heading=DICOM,
    help="Take private SOP classes as well.",
)
@option(
    "--tls-cert", metavar="FILE", heading=DICOM, help="Our certificate (PEM): TLS 1.2 or newer."
)
@option("--tls-key", metavar="FILE", heading=DICOM, help="Its key, where it is a file of its own.")
@option(
    "--tls-ca",
    metavar="FILE",
    heading=DICOM,
    help="Each peer must show a certificate that one of these has signed (mutual TLS).",
)
@option(
    "--allow-ip",
    metavar="CIDR",
    multiple=True,
    heading=WHO,
    help="Only from these addresses, such as 10.1.2.0/24 (repeatable).",
)
@option(
    "--allow-calling-aet",
    metavar="TITLE",
    multiple=True,
    heading=WHO,
    help="Only these calling AE titles (repeatable); a title is no authentication.",
)
@option(
    "--require-called-aet",
    is_flag=True,
    default=None,
    heading=WHO,
    help="Reject senders that call us by another title.",
)
@option(
    "--open",
    "open_",
    is_flag=True,
    default=None,
    heading=WHO,
    help="Listen beyond this machine without any list: the network itself is trusted.",
)
@option(
    "--max-associations",
    type=click.IntRange(min=1),
    metavar="N",
    heading=WHO,
    help="Associations at the same time (default 100).",
)
@option(
    "--profile",
    metavar="NAME|FILE",
    multiple=True,
    heading=INTO,
    help="r4, uk-core, ips or a TOML file of your own (repeatable; default r4).",
)
@option(
    "--patient",
    type=click.Choice(["resource", "reference", "logical", "contained"]),
    heading=INTO,
    help="The subject, as for convert.",
)
@option(
    "--companions",
    is_flag=True,
    default=None,
    heading=INTO,
    help="Also make the other resources that a study names.",
)
@option(
    "--instances",
    metavar="all|none|N",
    callback=count_or_word,
    heading=INTO,
    help="As for convert.",
)
@option(
    "--timezone", metavar="ZONE", heading=INTO, help="IANA zone of studies that state no offset."
)
@option("--mappings", metavar="PATH", heading=INTO, help="Folder with the site's mapping overlays.")
@option("--config", "config_file", metavar="FILE", heading=INTO, help="Configuration file.")
@option("-o", "--output", metavar="PATH", heading=OUT, help="Folder: one JSON file a resource.")
@option(
    "--to",
    metavar="URL|NAME",
    multiple=True,
    heading=OUT,
    help="Deliver to a FHIR server: its base URL, or a name of [destinations] (repeatable).",
)
@option(
    "--allow-http",
    is_flag=True,
    default=None,
    heading=OUT,
    help="Plain http beyond this machine: others can read what is sent.",
)
@option(
    "--ownership",
    type=click.Choice(["merge", "replace"]),
    heading=OUT,
    help="A study that stands in the folder is united with ours (default), or replaced.",
)
@option(
    "--quiet-period",
    metavar="TIME",
    callback=duration,
    heading=HOW,
    help="A study is published when nothing came for so long (default 60s).",
)
@option(
    "--quiet-cap",
    metavar="TIME",
    callback=duration,
    heading=HOW,
    help="And at the latest so long after its first change (default 15m).",
)
@option(
    "--receivers",
    type=click.IntRange(0, 64),
    metavar="N",
    heading=HOW,
    help="Receiver processes, 64 at most (default, and 0: one a core, four at most).",
)
@option(
    "--state",
    metavar="FILE|URL",
    heading=HOW,
    help="State file (default: listen.db in $XDG_STATE_HOME/dcm2fhir).",
)
@option(
    "--journal",
    metavar="DIR",
    heading=HOW,
    help="Folder of the receivers' journals (default: journal beside the state).",
)
@option(
    "--keep-headers",
    is_flag=True,
    default=None,
    heading=HOW,
    help="Keep whole headers up to the pixel data, so that a later mapping may read more (64 KiB each at most).",
)
@option(
    "--keep-files",
    metavar="PATH",
    heading=HOW,
    help="Keep whole objects as files in this folder, pixel data included; success waits for them.",
)
@option(
    "--disk-reserve",
    metavar="SIZE",
    callback=size,
    heading=HOW,
    help="With less free space than this nothing is taken (default 1GiB).",
)
@option(
    "--drain-timeout",
    metavar="TIME",
    callback=duration,
    heading=HOW,
    help="After SIGTERM open associations get so long to finish (default 30s).",
)
@option(
    "--http-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    heading=HOW,
    help="Port of /livez, /readyz, /metrics and the status page on 127.0.0.1 (default 8080; 0: a free one).",
)
@verbosity
@click.pass_obj
def listen(state: State, /, config_file: str | None, **given: Any) -> int:
    """Receive DICOM by C-STORE and publish studies as they become quiet.

    A success status says that the header is on the disk (with --keep-files the whole object). Pixel data is not kept
    otherwise: never let this be the only destination of a modality.
    """
    from contextlib import ExitStack

    flags = {
        ELSEWHERE.get(name, f"listen.{name}"): value
        for name, value in given.items()
        if name not in {"quiet", "verbose"}
    }
    loaded = configuration(config_file, flags, verbose=state.verbose, quiet=state.quiet)
    settings = daemon_settings(loaded)
    convert = loaded.config.convert
    if not convert.output and not convert.to:
        raise usage(
            "Nothing says where studies go: name a folder with -o OUT, or a server with --to."
        )
    with ExitStack() as stack:
        from converter.listener.daemon import Daemon

        request = _request(loaded, stack)
        delivery = None
        if convert.to:
            from converter.cli.listening import DaemonDelivery

            delivery = DaemonDelivery(loaded)
            stack.callback(delivery.close)
        return Daemon(
            settings, request, delivery=delivery, say=lambda line: click.echo(line, err=True)
        ).run()


def _request(loaded: Loaded, stack: ExitStack) -> Request:
    from converter.cli.running import request_of
    from converter.core.wanted import assuming
    from converter.sinks import FileSink

    settings = loaded.config.convert
    made = replace(request_of(loaded, [], {}, stack, dry_run=True), jobs=1, prune=False)
    if any(peer.timezone or peer.charset for peer in loaded.config.listen.peers.values()):
        made = replace(made, rules=assuming(made.rules))
    if not settings.output:
        return made
    folder = Path(settings.output)
    if settings.format != "json" or settings.output == "-" or folder.is_file():
        raise usage("listen writes one JSON file a resource: name a folder with -o OUT.")
    sink = FileSink(folder, durable=True)
    stack.callback(sink.close)
    return replace(made, sink=sink)


def daemon_settings(loaded: Loaded, *, faulty: bool = False) -> DaemonSettings:
    """How the daemon runs, by the configuration in force; ``faulty``: as far as it says so, whatever is wrong with it."""
    from converter.cli.places import state_folder
    from converter.cli.refusals import listen_faults, state_fault
    from converter.listener.policy import Peer, Policy
    from converter.listener.starting import DaemonSettings
    from converter.settings import parse_duration, parse_size
    from converter.store import place_of

    if not faulty and (faults := listen_faults(loaded)):
        raise refusal(faults)
    held = loaded.config.listen
    peers = tuple(
        Peer(
            name,
            tuple(title.strip() for title in peer.ae_titles),
            peer.addresses,
            peer.certificate,
            peer.authoritative,
            peer.timezone,
            peer.charset,
            peer.issuer,
        )
        for name, peer in sorted(held.peers.items())
    )
    policy = Policy(
        ae_title=held.ae_title.strip(),
        require_called=held.require_called_aet,
        calling=held.allow_calling_aet,
        addresses=held.allow_ip,
        accept_private=held.accept_private,
        peers=peers,
        max_associations=held.max_associations,
        max_per_address=held.max_associations_per_address,
        max_sockets=held.max_associations + 1000,
    )
    known = held.state and not (faulty and state_fault(held.state))
    state = place_of(held.state) if known else state_folder() / "listen.db"
    beside = state.parent if isinstance(state, Path) else state_folder()
    return DaemonSettings(
        bind=held.bind,
        port=held.port,
        http_port=held.http_port,
        state=state,
        journal=Path(held.journal) if held.journal else beside / "journal",
        output=Path(loaded.config.convert.output) if loaded.config.convert.output else None,
        policy=policy,
        open=held.open,
        receivers=held.receivers,
        quiet_period=parse_duration(held.quiet_period),
        quiet_cap=parse_duration(held.quiet_cap),
        drain_timeout=parse_duration(held.drain_timeout),
        disk_reserve=parse_size(held.disk_reserve),
        backlog_limit=parse_size(held.backlog_limit),
        max_pdu=held.max_pdu,
        max_message=parse_size(held.max_message),
        network_timeout=parse_duration(held.network_timeout),
        success="success" if held.success_status == "0x0000" else "elements-discarded",
        keep_headers=held.keep_headers,
        keep_files=Path(held.keep_files) if held.keep_files else None,
        tls_cert=held.tls_cert,
        tls_key=held.tls_key,
        tls_ca=held.tls_ca,
    )
