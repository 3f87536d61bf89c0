"""The only module, with `converter.listener.hardened`, that touches names of pynetdicom which it does not document.

pynetdicom is pinned below its next minor version. `missing` is asked at start: without the names of the fast path the
daemon runs on the stock path, with a warning; what hardens the stock path needs only documented names and those
of `NEEDED`, without which it refuses to start.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pynetdicom import AE, _config, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_CANCEL, C_ECHO, C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE, A_P_ABORT
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import register_uid, uid_to_service_class
from pynetdicom.transport import AddressInformation

from converter.errors import ConfigurationError
from converter.listener.hardened import HardenedSocket
from converter.listener.policy import VERIFICATION, Context
from converter.listener.stream import Stream
from converter.listener.wire import PDU_HEADER, ProtocolError, known_items

__all__ = [
    "Names",
    "abort",
    "accepted",
    "associate",
    "break_off",
    "busy",
    "check_names",
    "install",
    "missing",
    "park",
    "quiet_library",
    "requested",
    "resume",
    "support",
    "well_formed",
]

logger = logging.getLogger("converter.listener")

NEEDED: Final = (
    "dul.socket",
    "dul.event_queue",
    "dul.state_machine.current_state",
    "dul.to_user_queue",
    "dimse.message",
    "_server",
    "_kill",
    "acse.send_reject",
    "acse.send_abort",
    "kill",
    "_serve_request",
)
FAST: Final = (
    "dul._read_pdu_data",
    "dul._idle_timer.restart",
    "dul._kill_thread",
    "dul.to_provider_queue.queue",
    "dimse.msg_queue",
    "_accepted_cx",
    "_reactor_checkpoint.clear",
    "_is_paused",
)
PATIENCE: Final = 0.5
"""Seconds that the association's own thread gets to park."""
ABORT: Final = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 0))
"""A-ABORT by the service provider, reason not specified."""
UNRECOGNIZED: Final = 0x0211
"""Unrecognized operation (PS3.7 section C.5.24)."""
MAX_PRIVATE: Final = 1024
"""Private SOP classes that are registered in one process: a peer may propose any."""

Names = tuple[str, ...]


def missing(names: Names, association: Any = None) -> list[str]:
    """Names that this version of pynetdicom does not have."""
    association = association if association is not None else Association(AE(), MODE_ACCEPTOR)
    gone = []
    for name in names:
        place = association
        for part in name.split("."):
            if not hasattr(place, part):
                gone.append(name)
                break
            place = getattr(place, part)
    return gone


def check_names() -> list[str]:
    """Check at start; give the names of the fast path that are missing.

    Raises
    ------
    ConfigurationError
        Not even the hardened stock path is possible.
    """
    if gone := missing(NEEDED):
        raise ConfigurationError(
            f"this pynetdicom is not known ({', '.join(gone)} missing): install pynetdicom>=3.0.4,<3.1"
        )
    return missing(FAST)


def quiet_library() -> None:
    """Let the DICOM libraries log nothing: they print identifiers, and it costs a tenth of the time."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    for name in ("pynetdicom", "pydicom"):
        library = logging.getLogger(name)
        library.handlers[:] = [logging.NullHandler()]
        library.propagate = False
        library.setLevel(logging.CRITICAL + 1)


def associate(
    ae: AE,
    stream: Stream,
    local: tuple[Any, ...],
    remote: tuple[Any, ...],
    handlers: Iterable[tuple[Any, Callable[..., Any]]],
    *,
    broken: Callable[[Exception], None],
    ended: Callable[[], None],
    pdu_timeout: float,
    max_message: int,
) -> Association:
    """Make the acceptor of an association for a connection whose A-ASSOCIATE-RQ is at hand; not started yet."""
    association = Association(ae, MODE_ACCEPTOR)
    association.set_socket(
        HardenedSocket(
            association,
            stream,
            pdu_timeout=pdu_timeout,
            max_pdu=ae.maximum_pdu_size,
            max_message=max_message,
        )
    )
    acceptor = association.acceptor
    acceptor.maximum_length = ae.maximum_pdu_size
    acceptor.ae_title = ae.ae_title
    acceptor.address_info = AddressInformation.from_tuple(local)
    acceptor.implementation_class_uid = ae.implementation_class_uid
    acceptor.implementation_version_name = ae.implementation_version_name
    association.requestor.address_info = AddressInformation.from_tuple(remote)
    for event, handler in handlers:
        association.bind(event, handler)
    run, read, serve = association.run, association.dul.run, association._serve_request  # noqa: SLF001

    def running() -> None:
        try:
            run()
        except Exception as error:  # noqa: BLE001  what a peer proposes when pynetdicom has no rule for it
            broken(error)
            abort(association)
        finally:
            association.kill()  # whoever aborts from another thread may not have come so far
            stream.close()
            ended()

    def serving(message: Any, context_id: int) -> None:
        if not _serve(association, serve, message, context_id):
            broken(ProtocolError("a response to nothing, or a request without what it needs"))
            abort(association)

    def reading() -> None:
        try:
            _ignore_unknown(stream)
            read()
        except Exception as error:  # noqa: BLE001  what a peer sends when there may have no rule (PS3.8 Table 9-10)
            broken(error)
            if association.dul.socket is not None:
                association.dul.socket.send(ABORT)
                association.dul.socket.close()
        finally:
            # Whoever waits for a request that cannot be decoded would wait until its time is over.
            association.dul.to_user_queue.put(A_P_ABORT())

    association.run = running  # type: ignore[method-assign]
    association._serve_request = serving  # type: ignore[assignment,method-assign]  # noqa: SLF001
    association.dul.run = reading  # type: ignore[method-assign]
    return association


def _ignore_unknown(stream: Stream) -> None:
    """Leave out of the request at hand what pynetdicom has no rule for; what may follow it stays where it is."""
    end = stream.at + 6 + PDU_HEADER.unpack_from(stream.data, stream.at)[2]
    request = known_items(bytes(stream.data[stream.at : end]))
    stream.at = end - len(request)
    stream.data[stream.at : end] = request


def _serve(
    association: Association,
    serve: Callable[[Any, int], None],
    message: Any,
    context_id: int,
) -> bool:
    """Serve what we offer, and tell whether the association goes on.

    Of the rest pynetdicom lets some go unanswered, or answers with a C-STORE-RSP.
    """
    if isinstance(message, C_STORE | C_ECHO) and message.is_valid_request:
        serve(message, context_id)
    elif message.MessageIDBeingRespondedTo is None and not isinstance(message, C_STORE | C_ECHO):
        answer = type(message)()
        answer.MessageIDBeingRespondedTo = message.MessageID
        answer.Status = UNRECOGNIZED
        association.dimse.send_msg(answer, context_id)
    else:
        return isinstance(message, C_CANCEL)
    return True


def requested(association: Association) -> bool:
    """Whether a request came, and not the end of the connection in its place."""
    if isinstance(association.requestor.primitive, A_ASSOCIATE):
        return True
    association.is_aborted = True
    return False


def well_formed(association: Association) -> bool:
    """Whether a request has what pynetdicom takes for granted (PS3.8 sections 9.3.2 and D.1.1)."""
    request = association.requestor.primitive
    assert request is not None
    contexts = request.presentation_context_definition_list
    return bool(
        association.requestor.maximum_length is not None
        and len({context.context_id for context in contexts}) == len(contexts)
        and all(
            context.abstract_syntax and context.transfer_syntax and all(context.transfer_syntax)
            for context in contexts
        )
    )


def proposals(association: Association) -> list[tuple[str, list[str]]]:
    """(abstract syntax, transfer syntaxes) that the peer proposed."""
    request = association.requestor.primitive
    assert request is not None
    return [
        (str(context.abstract_syntax), [str(syntax) for syntax in context.transfer_syntax])
        for context in request.presentation_context_definition_list
    ]


def support(association: Association, contexts: Iterable[Context]) -> None:
    """Set what the acceptor supports, and register what pynetdicom does not know as storage."""
    supported = []
    for context in contexts:
        if context.abstract_syntax != VERIFICATION and not _register(context.abstract_syntax):
            continue
        made = PresentationContext()
        made.abstract_syntax = context.abstract_syntax
        made.transfer_syntax = list(context.transfer_syntaxes)
        supported.append(made)
    association.acceptor.supported_contexts = supported


_registering = threading.Lock()
_registered: set[str] = set()


def _register(uid: str) -> bool:
    if uid_to_service_class(uid) is StorageServiceClass:
        return True
    with _registering:
        if uid in _registered:
            return True
        if len(_registered) >= MAX_PRIVATE:
            return False
        register_uid(
            uid, "Storage_" + hashlib.sha256(uid.encode()).hexdigest(), StorageServiceClass
        )
        _registered.add(uid)
    return True


def reject(association: Association, result: int, source: int, diagnostic: int) -> None:
    """Reject an association that was requested; from within ``EVT_REQUESTED``."""
    association.acse.send_reject(result, source, diagnostic)
    evt.trigger(association, evt.EVT_REJECTED, {})
    association.kill()


def abort(association: Association) -> None:
    """Abort, and see to it that the thread that reads ends; from the association's own thread."""
    association.acse.send_abort(0x02)
    evt.trigger(association, evt.EVT_ABORTED, {})
    association.kill()


def accepted(association: Association) -> Mapping[int, tuple[str, str]]:
    """Context ID to (abstract syntax, transfer syntax) of what was accepted."""
    return {
        number: (str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for number, context in association._accepted_cx.items()  # noqa: SLF001
    }


def install(association: Association, read: Callable[[Callable[[], None]], None]) -> None:
    """Let ``read`` take the place of the association's own reading; it gets that as its argument."""
    stock = association.dul._read_pdu_data  # noqa: SLF001

    def replaced() -> None:
        read(stock)

    association.dul._read_pdu_data = replaced  # type: ignore[method-assign]  # noqa: SLF001


def transferring(association: Association) -> bool:
    """Whether the association is in data transfer (Sta6) and at the boundary of a message, with nothing to send."""
    dul, dimse = association.dul, association.dimse
    return (
        dul.state_machine.current_state == "Sta6"
        and dimse.message is None
        and not dimse.msg_queue.queue
        and not busy(association)
        and not dul.event_queue.queue
    )


def busy(association: Association) -> bool:
    """Whether somebody else needs the thread that reads: an abort, a kill, something to send."""
    dul = association.dul
    return bool(dul._kill_thread or association._kill or dul.to_provider_queue.queue)  # noqa: SLF001


def park(association: Association) -> bool:
    """Let the association's own thread rest, so that it does not poll a thousand times a second."""
    # Before it rests it may look at the idle timer once more.
    association.dul._idle_timer.restart()  # noqa: SLF001
    association._reactor_checkpoint.clear()  # noqa: SLF001
    deadline = time.monotonic() + PATIENCE
    while not association._is_paused:  # noqa: SLF001
        if busy(association) or time.monotonic() > deadline:
            association._reactor_checkpoint.set()  # noqa: SLF001
            return False
        time.sleep(0.0002)
    return True


def resume(association: Association) -> None:
    """Let it go on; the idle timer first, or it would find it expired."""
    association.dul._idle_timer.restart()  # noqa: SLF001
    association._reactor_checkpoint.set()  # noqa: SLF001


def break_off(association: Association, *, closed: bool) -> None:
    """Tell the state machine that the peer has gone (Evt17), or that it broke the protocol (Evt19)."""
    association.dul.event_queue.put("Evt17" if closed else "Evt19")
