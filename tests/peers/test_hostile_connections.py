"""Connections that are slow, half-open, deaf or too many, and bytes that are neither TLS nor HTTP/2."""

from __future__ import annotations

import time
from contextlib import ExitStack

from hostile import Attacker, is_closed, open_files, others_are_served, tls
from hyperframe.frame import PingFrame, PriorityFrame
from support import TIMEOUT, Tresor, wait_for

# How long a stranger may stay, in seconds.
PATIENCE = 10


def fill(attacker: Attacker, octets: bytes) -> None:
    """Sends until the other end takes no more for a second, or has closed."""
    attacker.connection.settimeout(1)
    try:
        while True:
            attacker.connection.sendall(octets)
    except OSError:
        pass


def test_clients_that_are_deaf_or_never_done_are_closed(target: Tresor) -> None:
    """All at once, because it takes a while: strangers after 10 s, whatever they do; others when they say nothing that
    could be HTTP/2, or take nothing of what they are sent."""
    talk = PriorityFrame(3, depends_on=1).serialize() * 1_000
    pings = PingFrame(0, opaque_data=b"whatever").serialize() * 1_000
    with others_are_served(target), ExitStack() as all_of_them:
        enter = all_of_them.enter_context
        begun, before = time.monotonic(), open_files(target)
        half_word = enter(tls(target, "order-service"))
        half_word.sendall(b"PRI * HTTP/2.0\r\n")
        deaf = [enter(Attacker.of(target, name)) for name in (None, "order-service")]
        for attacker in deaf:
            fill(attacker, pings)
        talker = enter(Attacker.of(target, None))
        while talker.push(talk):
            assert time.monotonic() < begun + PATIENCE + TIMEOUT, "a stranger that talks is not closed"
        assert is_closed(half_word), "whoever stops in the first word is not closed"
        # The system keeps what was sent to them for a while; the vault does not.
        wait_for(lambda: open_files(target) <= before, "the end of the connections that take nothing")
