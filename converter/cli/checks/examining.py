"""Runs checks beside each other, each with an end, and gives what they find in their order."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from converter.cli.checks.finding import CONFIGURATION, FAULT, MACHINE, NETWORK, Finding
from converter.errors import ConfigurationError, ConverterError, MappingError, StoreAwayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from converter.cli.checks.finding import SetUp
    from converter.store import StatePlace

__all__ = ["Check", "checks_of", "examine", "without_configuration"]

LIMIT = 25.0
"""Seconds for all checks together: a disk that hangs, hangs for ever."""


class Check(NamedTuple):
    """One check and its name."""

    name: str
    look: Callable[[], Iterator[Finding]]
    code: int = MACHINE
    """Exit code where it does not come to an end."""


def examine(checks: Iterable[Check]) -> Iterator[tuple[str, Finding]]:
    """Run all checks, and give (check, finding), each check's as soon as those before it are told."""
    until = time.monotonic() + LIMIT
    running = [_Running(check) for check in checks]
    for one in running:
        # not joined by the interpreter: what hangs keeps nobody
        threading.Thread(target=one.run, name=one.check.name, daemon=True).start()
    for one in running:
        if not one.done.wait(max(0.0, until - time.monotonic())):
            told = f"did not come to an end within {LIMIT:.0f} s"
            one.found.append(Finding("problem", told, "run it again alone", one.check.code))
        for finding in list(one.found):
            yield one.check.name, finding


class _Running:
    def __init__(self, check: Check) -> None:
        self.check = check
        self.found: list[Finding] = []
        self.done = threading.Event()

    def run(self) -> None:
        try:
            for finding in self.check.look():
                self.found.append(finding)
        except MappingError as error:
            from converter.cli.checks.setting import faulty

            self.found += faulty(error.faults)
        except ConverterError as error:
            self.found.append(_of(error))
        except OSError as error:
            self.found.append(
                Finding("problem", f"the system refused: {_strerror(error)}", code=MACHINE)
            )
        except Exception as error:  # noqa: BLE001  a check that fails ends no other; its words may hold a value
            self.found.append(
                Finding(
                    "problem",
                    f"this check failed: a fault in dcm2fhir ({type(error).__name__})",
                    "please report it",
                    FAULT,
                )
            )
        finally:
            self.done.set()


def _of(error: ConverterError) -> Finding:
    """What a command would end with, as a finding."""
    fix = ""
    if isinstance(error, StoreAwayError):
        fix = "pg_isready -d URL; a daemon goes on receiving meanwhile"
    return Finding("problem", str(error), fix, error.exit_code)


def _strerror(error: OSError) -> str:
    name = f"{error.filename}: " if error.filename else ""
    return name + (error.strerror or type(error).__name__)


def without_configuration(error: ConfigurationError) -> list[Check]:
    """What can be looked at where there is no configuration to go by."""
    from converter.cli.checks import machine

    def fail() -> Iterator[Finding]:
        yield from ()
        raise error

    def rest() -> Iterator[Finding]:
        yield Finding(
            "warning",
            "what depends on the configuration was not looked at",
            "put it right, then again: dcm2fhir doctor",
        )

    return [
        Check("configuration", fail, CONFIGURATION),
        Check("all else", rest),
        Check("time zones", partial(machine.time_zones, None)),
        Check("pynetdicom", machine.pynetdicom_names),
        Check("versions", machine.versions),
    ]


def checks_of(setup: SetUp) -> list[Check]:
    """All checks that a set-up is for, in the order in which they are told."""
    from converter.cli.checks import certificates, machine, places, ports, queue, servers, setting

    listens = "listen" in setup.purposes
    converts = bool(setup.purposes & {"listen", "convert"})
    checks = [Check("configuration", partial(setting.configuration, setup), CONFIGURATION)]
    if converts:
        checks.append(Check("mapping", partial(setting.mapping, setup), CONFIGURATION))
    stores: list[StatePlace] = []
    try:
        stores = setup.stores()
    except ConfigurationError as error:
        checks.append(Check("study store", partial(_refused, error), CONFIGURATION))
    checks += [Check("study store", partial(places.store, place)) for place in stores]
    if listens:
        checks.append(Check("journal", partial(places.journal, setup)))
    checks.append(Check("disk", partial(machine.disks, setup, stores)))
    if converts:
        checks.append(Check("output", partial(places.output, setup)))
    if listens:
        checks += [
            Check("port", partial(ports.dicom, setup)),
            Check("senders", partial(setting.senders, setup), CONFIGURATION),
            Check("TLS", partial(certificates.of_listener, setup), CONFIGURATION),
            Check("HTTP port", partial(ports.http_port, setup)),
            Check("open files", partial(machine.open_files, setup)),
            Check("pynetdicom", machine.pynetdicom_names),
        ]
    known, wrong = servers.destinations(setup, stores)
    checks += [Check("FHIR server", partial(_refused, error), CONFIGURATION) for error in wrong]
    checks += [Check("FHIR server", partial(servers.server, one), NETWORK) for one in known]
    checks += [Check("queue", partial(queue.queue, setup, place)) for place in stores]
    checks.append(Check("time zones", partial(machine.time_zones, setup)))
    checks.append(Check("versions", machine.versions))
    return checks


def _refused(error: ConverterError) -> Iterator[Finding]:
    yield from ()
    raise error
