"""Every exception of the package, classed by what the caller can do about it.

::

    ConverterError
    |- ConfigurationError          set-up is wrong; stop at start              exit 3
    |  |- MappingError(faults)     every fault, with file and key path
    |  `- ProfileNotFoundError
    |- SourceError                 an input cannot be read at all              exit 2
    |  `- UnreachableSourceError   ... now: what it lies on does not answer     exit 6
    |- EngineError                 the cluster that tasks run on is not there   exit 6
    |- PortError                   a port of this machine cannot be had         exit 7
    |- StoreError                  the store cannot take or give a study       exit 7
    |  `- StoreAwayError           its server cannot be reached; try again     exit 7
    `- SinkError(study_uid)        the machine cannot take an output           exit 7
       |- ReaderGoneError         whoever read the output has left          exit 141
       |- StandingError           hold the study that it stands for           exit 7
       |- RetriableSinkError       back off and keep                           exit 6
       `- RejectedError            dead letter, go on                          exit 1

A problem *in* an input (a bad file, a bad value) is no exception but a value: `converter.core.issues.Issue`
or `converter.core.header.Unreadable`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ConfigurationError",
    "ConverterError",
    "EngineError",
    "Fault",
    "MappingError",
    "PortError",
    "ProfileNotFoundError",
    "ReaderGoneError",
    "RejectedError",
    "RetriableSinkError",
    "SinkError",
    "SourceError",
    "StandingError",
    "StoreAwayError",
    "StoreError",
    "UnreachableSourceError",
    "needs_extra",
]


class ConverterError(Exception):
    """Root of everything that the package raises on purpose."""

    exit_code = 1


class ConfigurationError(ConverterError):
    """The set-up is wrong: a flag, a configuration file, a mapping."""

    exit_code = 3


def needs_extra(what: str, extra: str) -> ConfigurationError:
    """Say what to install where an extra is missing: dcm2fhir is on no package index, where its name is anybody's."""
    return ConfigurationError(
        f"{what} needs a package that is not installed. In the checkout of dcm2fhir: pip install '.[{extra}]'"
    )


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in a mapping file."""

    file: str
    """Name of the file, as the user wrote it or relative to the shipped mappings."""
    key: str
    """Key path in the file, such as ``ImagingStudy.series.number.from``."""
    message: str
    """What is wrong and, where one is near, the name that was probably meant."""

    @classmethod
    def of_encoding(cls, file: str, error: UnicodeDecodeError) -> Fault:
        """Fault of a file that is no UTF-8 text, with the line."""
        line = error.object.count(b"\n", 0, error.start) + 1
        return cls(file, f"line {line}", "is no UTF-8 text: save it as UTF-8")

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.key}: {self.message}"
            if self.key
            else f"{self.file}: {self.message}"
        )


class MappingError(ConfigurationError):
    """Mapping files have faults; all of them are told at once."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class ProfileNotFoundError(ConfigurationError):
    """A profile was asked for that is neither shipped nor a file."""


class SourceError(ConverterError):
    """An input that the user named cannot be read at all."""

    exit_code = 2


class UnreachableSourceError(SourceError):
    """What an input lies on does not answer; it may later."""

    exit_code = 6


class EngineError(ConverterError):
    """The cluster that tasks run on does not answer, or has no worker."""

    exit_code = 6


class PortError(ConverterError):
    """A port of this machine cannot be had: another process has it, or this user may not."""

    exit_code = 7


class StoreError(ConverterError):
    """The study store cannot take or give a study."""

    exit_code = 7


class StoreAwayError(StoreError):
    """The server of the study store cannot be reached now: nothing is lost, try again when it is back."""


class SinkError(ConverterError):
    """An output could not be written."""

    exit_code = 7

    def __init__(self, message: str, study_uid: str = "") -> None:
        self.study_uid = study_uid
        super().__init__(message)


class ReaderGoneError(SinkError):
    """Whoever read an output, such as through a pipe, has left; the code is that of a program that SIGPIPE ends."""

    exit_code = 141


class StandingError(SinkError):
    """What stands at the destination cannot be read, so nothing may take its place."""


class RetriableSinkError(SinkError):
    """The destination may take it later: back off and keep."""

    exit_code = 6


class RejectedError(SinkError):
    """The destination refuses this one for good: dead letter, go on."""

    exit_code = 1
