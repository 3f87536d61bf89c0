"""The least that a durable receiver can do: read, write the start of the data set, sync, answer.

It knows nothing of DICOM beyond the framing, takes whatever it is sent, and reads no header.
"""

import os
import socket
import struct
import sys
import threading
from itertools import count

from converter.listener.wire import parse_command, store_response

SIZE = 1 << 24


def read(sock, size):
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    while done < size:
        got = sock.recv_into(view[done:])
        if not got:
            raise EOFError
        done += got
    return data


def pdu(sock):
    kind, _, size = struct.unpack(">BBI", read(sock, 6))
    return kind, read(sock, size)


def serve(sock, path):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    log = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(log, bytes(SIZE), 0)
    os.fsync(log)
    _, request = pdu(sock)
    answer = request[:68] + b"\x10\0\0\x151.2.840.10008.3.1.1.1"
    answer += b"\x21\0\0\x1b\1\0\0\0\x40\0\0\x131.2.840.10008.1.2.1"
    answer += b"\x50\0\0\x08\x51\0\0\4\0\2\0\0"
    sock.sendall(b"\2\0" + struct.pack(">I", len(answer)) + answer)
    at, command, kept = 0, None, b""
    while True:
        kind, body = pdu(sock)
        if kind != 4:
            sock.sendall(struct.pack(">BBII", 6, 0, 4, 0))
            sock.close()
            return
        place = 0
        while place < len(body):
            size, context, control = struct.unpack_from(">IBB", body, place)
            if control & 1:
                command = parse_command(body[place + 6 : place + 4 + size])
            elif not kept:
                kept = bytes(body[place + 6 : place + 1006])
            place += 4 + size
            if control == 2:
                at = at if at < SIZE - 2000 else 0
                os.pwrite(log, kept, at)
                at += len(kept)
                os.fdatasync(log)
                sock.sendall(store_response(context, command, 0, ""))
                kept = b""


def quiet(sock, path):
    try:
        serve(sock, path)
    except (EOFError, OSError):
        sock.close()


listening = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
for number in count():
    sock, _ = listening.accept()
    arguments = (sock, f"{sys.argv[2]}/bare{number}")
    threading.Thread(target=quiet, args=arguments, daemon=True).start()
