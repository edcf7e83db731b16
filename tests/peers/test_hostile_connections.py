"""Connections that are slow, half-open, deaf or too many, and bytes that are neither TLS nor HTTP/2."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hostile import Attacker, is_closed, open_files, others_are_served, tcp, tls
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


def test_silent_connections_keep_nobody_out(target: Tresor) -> None:
    """More of them than there is room for connections: they have not said who they are, so the oldest has to go."""
    with others_are_served(target), ExitStack() as silent:
        connections = [silent.enter_context(tcp(target)) for _ in range(5_000)]
        assert sum(not is_closed(connection, 0.001) for connection in connections[-300:]) <= 256
        assert open_files(target) < 1_000


def test_slow_handshakes_keep_nobody_out(target: Tresor) -> None:
    """A record that promises a ClientHello, and then a byte now and then."""
    with others_are_served(target), ExitStack() as slow:
        connections = [slow.enter_context(tcp(target)) for _ in range(1_000)]
        for octet in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03":
            for connection in connections:
                try:
                    connection.sendall(bytes([octet]))
                except OSError:
                    pass
        assert open_files(target) < 1_000


def test_probes_that_say_nothing_do_not_keep_the_kubelet_out(target: Tresor) -> None:
    with others_are_served(target), ExitStack() as silent:
        for _ in range(500):
            silent.enter_context(socket.create_connection(("127.0.0.1", target.health_port), TIMEOUT))
        with grpc.insecure_channel(f"localhost:{target.health_port}") as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
