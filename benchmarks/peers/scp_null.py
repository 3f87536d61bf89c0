"""Our receivers, two of them, without a journal: what receiving costs by itself."""

import os
import socket
import sys
from itertools import count

from converter.listener.control import ReceiverSettings, flat
from converter.listener.policy import Policy
from converter.listener.receiver import Receiver
from converter.mapping import load


def receive(channel, settings):
    receiver = Receiver(settings, None)
    for number in count(1):
        data, (descriptor,), _, _ = socket.recv_fds(channel, 100, 1)
        receiver.take(socket.socket(fileno=descriptor), number, ("127.0.0.1", int(data)))


listening = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
settings = ReceiverSettings(0, 1, sys.argv[2], flat(load(("r4",)).wanted), Policy())
channels = []
for _ in range(2):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if not os.fork():
        receive(theirs, settings)
    channels.append(ours)
for turn in count():
    sock, remote = listening.accept()
    with sock:
        socket.send_fds(channels[turn % 2], [b"%d" % remote[1]], [sock.fileno()])
