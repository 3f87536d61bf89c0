"""A sender that saturates: its PDUs are made beforehand, each association is a process, each message waits for its answer.

Each message is another instance: the SOP Instance UID is counted up in place, in command and data set. The other
values change as they do within a series.
"""

from __future__ import annotations

import multiprocessing
import queue
import random
import socket
import struct
import time
from threading import BrokenBarrierError
from typing import Any, NamedTuple

from benchmarks.corpora import CT, EXPLICIT, Place, common, image, wrap
from benchmarks.receivers import Running, Unanswered
from tools.dicom_sender import Gone, Rejected, Sender, pdu, pdv, store
from tools.dicom_sender import command as command_set

__all__ = ["SIZES", "Rate", "file", "measure", "stream"]

SIZES = {"5 KB": 24, "0.5 MB": 512}
"""Rows and columns of the image."""
LIMIT = 131072
"""Of a PDU."""
DIGITS = 9
WARMING = 0.3
STALL = 8.0
"""Seconds without an answer after which a receiver has stalled."""
SUCCESS = struct.pack("<HHIH", 0, 0x0900, 2, 0)


class Rate(NamedTuple):
    """What was measured."""

    images: float
    """A second."""
    cpu: float
    """Seconds of the receiver for each image."""


def file(study: int, number: int, rows: int) -> tuple[bytes, str]:
    """One image as a file, and its SOP Instance UID, of which the last digits may be changed."""
    place = Place(study, 1, 10_000 + number)
    elements = common(place, random.Random(f"{place}"), CT, "CT") + image(rows)
    uid = next(value for tag, _, value in elements if tag == 0x00080018) + ".1" + "0" * (DIGITS - 1)
    elements = [(tag, vr, uid if tag == 0x00080018 else value) for tag, vr, value in elements]
    return wrap(elements), uid


def data_set(study: int, number: int, rows: int) -> tuple[bytes, str]:
    """The same without file meta information."""
    whole, uid = file(study, number, rows)
    return whole[144 + int.from_bytes(whole[140:144], "little") :], uid


def messages(study: int, rows: int, limit: int) -> list[tuple[bytearray, list[int]]]:
    """Messages, and where in each the digits stand."""
    made = []
    for number in range(64 if rows < 100 else 8):
        data, uid = data_set(study, number, rows)
        message = bytearray(b"".join(store(1, CT, uid, data, max_pdu=limit)))
        places, at = [], 0
        while (at := message.find(uid.encode(), at)) >= 0:
            at += len(uid)
            places.append(at - DIGITS)
        made.append((message, places))
    return made


class _Association:
    """One association of the load."""

    def __init__(self, port: int, rows: int, study: int) -> None:
        self._sender = Sender(port, timeout=STALL).associate([(1, CT, (EXPLICIT,))])
        limit = min(self._sender.max_pdu or LIMIT, LIMIT)
        self._messages = messages(study, rows, limit)
        sock = self._sock = self._sender.sock
        # Waits in the system and not in poll(), which would be two more calls for each message.
        sock.settimeout(None)
        patience = struct.pack("ll", int(STALL), 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        self._sent = 0
        message, _ = self._messages[0]
        sock.sendall(message)
        kind, body = self._sender.pdu()
        if kind != 4 or SUCCESS not in body:
            raise Unanswered("the first answer is no success")
        self._size = 6 + len(body)
        self._status = 6 + body.index(SUCCESS)

    def send(self, seconds: float) -> tuple[int, float]:
        """Send for so long; give number and time."""
        sock, size, status, made = self._sock, self._size, self._status, self._messages
        begin = time.monotonic()
        end = begin + seconds
        count, total = 0, len(made)
        while (now := time.monotonic()) < end or not count:
            self._sent += 1
            message, places = made[self._sent % total]
            digits = b"%08d" % self._sent
            for place in places:
                message[place + 1 : place + DIGITS] = digits
            sock.sendall(message)
            got = sock.recv(65536)
            while len(got) < size:  # some receivers send it in two parts
                more = sock.recv(65536)
                if not more:
                    raise Unanswered("the connection was closed")
                got += more
            if got[status : status + 10] != SUCCESS:
                raise Unanswered("an answer is no success")
            count += 1
        return count, now - begin

    def release(self) -> None:
        self._sender.release()


def _send(port: int, rows: int, seconds: float, study: int, barrier: Any, results: Any) -> None:
    try:
        association = _Association(port, rows, study)
        association.send(WARMING)
        barrier.wait(2 * STALL)
        results.put(association.send(seconds))
        barrier.wait(2 * STALL + seconds)
        association.release()
    except BrokenBarrierError:
        return  # another has failed, and says how
    except (BlockingIOError, TimeoutError):
        results.put("stalls")
    except (OSError, Gone, Rejected, Unanswered) as error:
        results.put(f"fails: {error}")
    barrier.abort()


def measure(receiver: Running, size: str, associations: int, seconds: float) -> Rate:
    """Send as many images as go, for so long.

    Raises
    ------
    Unanswered
        A sender stalled or failed.
    """
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(associations + 1), context.Queue()
    rows = SIZES[size]
    senders = [
        context.Process(
            target=_send, args=(receiver.port, rows, seconds, rows * 100 + n, barrier, results)
        )
        for n in range(associations)
    ]
    for sender in senders:
        sender.start()
    try:
        barrier.wait(2 * STALL)
        before = receiver.cpu()
        found = [results.get(timeout=seconds + STALL + 2) for _ in senders]
        cpu = receiver.cpu() - before
        barrier.wait(2 * STALL)
    except (BrokenBarrierError, queue.Empty):
        found = []
        while not results.empty():
            found.append(results.get())
    finally:
        barrier.abort()
        for sender in senders:
            sender.join(1)
            sender.kill()
            sender.join()
    if words := [one for one in found if isinstance(one, str)]:
        raise Unanswered(words[0])
    if len(found) < associations:
        raise Unanswered("stalls")
    images = sum(count for count, _ in found)
    return Rate(sum(count / took for count, took in found), cpu / images)


def stream(port: int, size: int) -> float:
    """Send one image of so many bytes; give the seconds.

    Raises
    ------
    Unanswered
    """
    data, uid = data_set(1, 1, 24)
    data = data[: data.index(b"\xe0\x7f\x10\0OW")]
    data += b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", size)
    with Sender(port, timeout=60).associate([(1, CT, (EXPLICIT,))]) as sender:
        limit = min(sender.max_pdu or LIMIT, LIMIT)
        piece = limit - 6
        fragment = pdu(pdv(1, bytes(piece), last=False))
        begin = time.monotonic()
        sender.send(pdu(pdv(1, command_set(1, 1, sop_class=CT, sop_instance=uid), is_command=True)))
        sender.send(pdu(pdv(1, data, last=False)))
        for _ in range(size // piece):
            sender.send(fragment)
        sender.send(pdu(pdv(1, bytes(size % piece))))
        if sender.response().status:
            raise Unanswered("the answer is no success")
        took = time.monotonic() - begin
        sender.release()
    return took
