"""One receiver: connections in, acknowledged instances in its journal out. The same in a process and in a test."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from converter.core.header import Wanted
from converter.listener import private
from converter.listener.control import ReceiverSettings, State, unflat
from converter.listener.dataset import DataSet
from converter.listener.fastpath import Bounds, FastPath
from converter.listener.files import IMPLEMENTATION, VERSION, Incoming
from converter.listener.gate import Arrival, Gate, take_titles, take_version
from converter.listener.hub import Hub, Pending
from converter.listener.journal import Journal
from converter.listener.keeping import Keeper
from converter.listener.notes import Notes
from converter.listener.origins import TagSet
from converter.listener.policy import (
    CALLING,
    FULL,
    VERIFICATION,
    Rejection,
    acceptable,
    certificate_names,
    unsupported,
)
from converter.listener.status import Answer
from converter.listener.storing import Connection, Guard, Storer, Whole
from converter.listener.stream import Stream
from converter.listener.tls import Certificates
from converter.listener.wire import Command, Interruption

__all__ = ["Receiver"]

logger = logging.getLogger("converter.listener")


def _reason(error: Exception) -> str:
    """Why an association broke off: in our own words, or what kind of exception of a library's it was."""
    return str(error) if isinstance(error, Interruption) else type(error).__name__


class _Conversation:
    """`Storing` of one connection."""

    def __init__(self, storer: Storer, connection: Connection) -> None:
        self._storer = storer
        self._connection = connection

    def store(self, context: tuple[str, str], command: Command, data: DataSet) -> Answer:
        return self._storer.store(self._connection, context, command, data)

    def begin(self, context: tuple[str, str], command: Command, data: DataSet) -> Pending:
        return self._storer.begin(self._connection, context, command, data)


class Receiver:
    """Takes connections, one thread pair an association.

    Parameters
    ----------
    settings : ReceiverSettings
    journal : Journal or None
        ``None``: nothing is kept (measuring only).
    tls : Certificates, optional
    """

    def __init__(
        self, settings: ReceiverSettings, journal: Journal | None, tls: Certificates | None = None
    ) -> None:
        private.quiet_library()
        self.missing = private.check_names() if settings.fast else []
        self._fast = settings.fast and not self.missing
        self._settings = settings
        wanted: Wanted = unflat(settings.wanted)
        root = Path(settings.keep_files) if settings.keep_files else None
        guard = Guard(
            [Path(settings.journal), *([root] if root else [])],
            settings.disk_reserve,
            journal.backlog if journal is not None else lambda: 0,
            settings.backlog_limit,
        )
        self._journal = journal
        tags = TagSet.of(wanted)
        keeper = None
        if root or settings.keep_headers:
            files = Incoming(root, Path(settings.journal)) if root else None
            keeper = Keeper(files, guard.refuses, headers=settings.keep_headers)
        self._notes = Notes()
        self._storer = Storer(
            journal, wanted, guard, settings.success, tags.version, keeper, self._notes
        )
        # A whole object is a file and a sync of its own, for which others should not wait.
        self._hub = Hub(self._storer.keep) if self._fast and not root and Hub.possible() else None
        self._ae = AE(settings.policy.ae_title)
        self._ae.implementation_class_uid = IMPLEMENTATION
        self._ae.implementation_version_name = VERSION
        # The supervisor counts, over all receivers; pynetdicom would stop at 10 in each.
        self._ae.maximum_associations = sys.maxsize
        self._ae.maximum_pdu_size = settings.max_pdu
        self._ae.acse_timeout = settings.acse_timeout
        self._ae.network_timeout = settings.network_timeout
        self._ae.dimse_timeout = settings.network_timeout
        self._ae.add_supported_context(VERIFICATION)
        self._bounds = Bounds(settings.max_pdu, settings.max_message, settings.pdu_timeout)
        self._lock = threading.Lock()
        self._open: dict[int, tuple[Connection, Stream]] = {}
        self._ended: list[int] = []
        self._counts: Counter[str] = Counter()
        self._bytes = 0
        self._gate = Gate(self._admit, self._dropped, timeout=settings.gate_timeout, tls=tls)
        self._gate.start()

    # connections

    def take(
        self, sock: socket.socket, number: int, remote: tuple[Any, ...], *, over: bool = False
    ) -> None:
        """Take a connection that was accepted."""
        if sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._gate.add(Arrival(sock, number, remote, over))

    def _dropped(self, arrival: Arrival, reason: str) -> None:
        with self._lock:
            self._counts[f"dropped.{reason}"] += 1
            self._ended.append(arrival.number)
        if reason not in {"probe", "shutting-down"}:  # health checks are ordinary
            level = logging.WARNING if reason == "tls" else logging.INFO
            why = f" ({arrival.why})" if arrival.why else ""
            address = str(arrival.remote[0])
            self._notes.note(f"connection dropped, {reason}{why}", address, level=level)

    def _admit(self, arrival: Arrival, stream: Stream) -> None:
        connection = Connection(arrival.number, str(arrival.remote[0]))
        arrival.version = take_version(stream)
        arrival.titled = take_titles(stream)

        def requested(event: evt.Event) -> None:
            self._requested(event, arrival, connection)

        def established(_event: evt.Event) -> None:
            connection.established = True
            self._count("associations.accepted")

        def stored(event: evt.Event) -> Dataset:
            return self._stored(event, connection)

        def echoed(_event: evt.Event) -> int:
            self._count("cecho.success")
            return 0x0000

        def ended() -> None:
            self._end(arrival.number)

        def broken(error: Exception) -> None:
            if association.requestor.primitive is None:
                return  # `_requested` sees to it
            name = "broken-off" if connection.established else "malformed-request"
            self._count(f"dropped.{name}")
            self._notes.note(
                f"association broke off, {_reason(error)}",
                connection.address,
                connection.calling,
            )

        association = private.associate(
            self._ae,
            stream,
            self._settings.local,
            arrival.remote,
            [
                (evt.EVT_REQUESTED, requested),
                (evt.EVT_ESTABLISHED, established),
                (evt.EVT_C_STORE, stored),
                (evt.EVT_C_ECHO, echoed),
            ],
            broken=broken,
            ended=ended,
            pdu_timeout=self._settings.pdu_timeout,
            max_message=self._settings.max_message,
        )
        if self._fast:
            conversation = _Conversation(self._storer, connection)
            path = FastPath(association, stream, conversation, self._bounds, self._hub, broken)
            private.install(association, path.read)
        with self._lock:
            self._open[arrival.number] = (connection, stream)
        association.start()

    def _end(self, number: int) -> None:
        with self._lock:
            held = self._open.pop(number, None)
            if held is not None:
                self._bytes += held[1].received
            self._ended.append(number)

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    # events

    def _requested(self, event: evt.Event, arrival: Arrival, connection: Connection) -> None:
        association: Any = event.assoc
        requested = private.requested(association)
        if not requested or not private.well_formed(association):
            self._count("dropped.malformed-request")
            why = "" if arrival.titled else " (an AE title that is none)"
            self._notes.note(f"association aborted, malformed-request{why}", connection.address)
            if requested:
                private.abort(association)
            return
        request = association.requestor.primitive
        policy = self._settings.policy
        rejection: Rejection | None
        try:
            connection.calling = str(request.calling_ae_title).strip()
            shown = certificate_names(arrival.certificate)
            sender = (connection.calling, connection.address, shown)
            connection.peer = policy.peer(*sender)
            rejection = unsupported(arrival.version, str(request.application_context_name)) or (
                FULL if arrival.over else policy.rejects(str(request.called_ae_title), *sender)
            )
            if rejection is None:
                contexts = acceptable(
                    private.proposals(association), accept_private=policy.accept_private
                )
                private.support(association, contexts)
        except Exception as error:  # pynetdicom would swallow it and go on with no policy at all
            logger.exception("an association could not be judged: %s", type(error).__name__)
            rejection = Rejection(2, 1, 1, "internal")
        if rejection is not None:
            self._count(f"rejected.{rejection.reason}")
            why = rejection.reason
            if rejection is CALLING and policy.bound(connection.calling):
                why += " (with another address or certificate than the configuration binds it to)"
            self._notes.note(f"association rejected, {why}", connection.address, connection.calling)
            private.reject(association, *rejection[:3])

    def _stored(self, event: evt.Event, connection: Connection) -> Dataset:
        """Answer a C-STORE on the stock path."""
        request: Any = event.request
        command = Command(
            1,
            request.MessageID,
            True,
            str(request.AffectedSOPClassUID).encode(),
            str(request.AffectedSOPInstanceUID).encode(),
        )
        context = (str(event.context.abstract_syntax), str(event.context.transfer_syntax))
        answer = self._storer.store(connection, context, command, Whole(request.DataSet.getvalue()))
        status = Dataset()
        status.Status = answer.code
        if answer.comment:
            status.ErrorComment = answer.comment
        return status

    # what the supervisor asks

    def state(self) -> State:
        """How it is; connections that ended are told once."""
        self._notes.settle()
        with self._lock:
            ended, self._ended = self._ended, []
            held = list(self._open.values())
            counts = {f"cstore.{name}": n for name, n in self._storer.statuses.items()}
            counts.update({f"duration.{name}": n for name, n in self._storer.durations.items()})
            counts.update(self._counts)
            counts["bytes"] = self._bytes + sum(stream.received for _, stream in held)
        if self._journal is not None:
            self._journal.heal()
            counts["journal.failing"] = int(self._journal.failing)
            counts["journal.records"] = self._journal.records
            counts["journal.syncs"] = self._journal.syncs
            counts["journal.failures"] = self._journal.failures
        return State(
            [(c.number, c.address, c.study) for c, _ in held if c.established],
            ended,
            counts,
        )

    @property
    def connections(self) -> int:
        """Associations, and connections on their way to one."""
        return len(self._open) + self._gate.waiting

    def drain(self) -> None:
        """Take nothing new; what runs goes on."""
        self._gate.close()

    def close(self) -> None:
        """Refuse every object from here on."""
        self._storer.guard.closing = True
        self._gate.close()
        if self._hub is not None:
            self._hub.close()
