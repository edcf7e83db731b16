"""Connections that are slow, half-open, deaf or too many, and bytes that are neither TLS nor HTTP/2."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hostile import PREFACE, Attacker, context_of, is_closed, message, open_files, others_are_served, tcp, tls
from hyperframe.frame import PingFrame, PriorityFrame, SettingsFrame
from support import TIMEOUT, Tresor, v1, wait_for

# How long a stranger may stay, in seconds.
PATIENCE = 10

RESOURCE_EXHAUSTED = 8


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
        for _ in range(4_500):
            silent.enter_context(tcp(target))
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


def test_one_caller_does_not_take_all_connections(target: Tresor) -> None:
    """1024 of 4096 are for one; those that it leaves idle are fine, and counted."""
    context = context_of(target, "order-service")
    with others_are_served(target), ExitStack() as all_of_them:
        mine = [all_of_them.enter_context(tls(target, None, context)) for _ in range(1_024)]
        for connection in mine:
            connection.sendall(PREFACE + SettingsFrame(0).serialize())
        wait_for(lambda: open_files(target) > 1_024, "that many connections")
        with tls(target, None, context) as one_too_many:
            assert is_closed(one_too_many)
        assert not is_closed(mine[0], 0.1)
        mine.pop().close()
        wait_for(lambda: is_served(target, context), "room for one more")


def is_served(tresor: Tresor, context: ssl.SSLContext) -> bool:
    with Attacker(tls(tresor, None, context)) as newcomer:
        return newcomer.ask(1).code == 0


def test_streams_that_nobody_reads_are_limited_and_cost_little(target: Tresor, tenant: str) -> None:
    """Thousands of WatchChanges without a window to send anything in, while there are changes to tell."""
    watch = message(v1.WatchChangesRequest(tenant=tenant))
    with others_are_served(target), ExitStack() as all_of_them:
        deaf = [all_of_them.enter_context(Attacker.of(target, "order-service", window=0)) for _ in range(16)]
        last = all_of_them.enter_context(Attacker.of(target, "order-service"))
        streams = range(1, 512, 2)
        for attacker in deaf:
            attacker.push(b"".join(attacker.call(stream, "WatchChanges", watch) for stream in streams))
            attacker.read(lambda: len(attacker.answers) == len(streams))
            assert {answer.code for answer in attacker.answers.values()} == {None}
        too_many = last.ask(1, "WatchChanges", watch)
        assert (too_many.code, too_many.reason) == (RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        for _ in range(20):
            target.operator.save(tenant)
        deaf[0].connection.close()
        wait_for(lambda: last.ask(last.next_stream()).code == 0, "room for a call")


# What is neither TLS 1.3 nor anything that the vault speaks; it answers with an alert, or not at all, and closes.
GREETINGS = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP/2 in plaintext": PREFACE + SettingsFrame(0).serialize(),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "SSL 2": bytes.fromhex("802e0100020015000000100100800200800600400400800700c00000") + b"x" * 24,
    "garbage": bytes(range(256)) * 64,
    "zeroes": bytes(4_096),
    "empty records": b"\x16\x03\x01\x00\x00" * 1_000,
    "a record that is too large": b"\x16\x03\x01\xff\xff" + b"\x01" * 65_535,
    "a ClientHello of 16 MiB": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"\x03" * 16_380,
    "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "data before the handshake": b"\x17\x03\x03\x00\x10" + b"x" * 16,
    "a heartbeat (CVE-2014-0160)": b"\x18\x03\x02\x00\x03\x01\x40\x00",
}


@pytest.mark.parametrize("case", GREETINGS)
def test_what_is_not_tls_is_closed(target: Tresor, case: str) -> None:
    with others_are_served(target), ExitStack() as all_of_them:
        connections = [all_of_them.enter_context(tcp(target)) for _ in range(20)]
        for connection in connections:
            connection.sendall(GREETINGS[case])
        assert all(is_closed(connection) for connection in connections)


@pytest.mark.parametrize("protocols", [["http/1.1"], ["h2c"], ["spdy/3.1", "http/1.0"]])
def test_another_protocol_in_the_handshake_fails_it(target: Tresor, protocols: list[str]) -> None:
    context = context_of(target, "operator")
    context.set_alpn_protocols(protocols)
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        tls(target, None, context)


def test_what_is_not_http2_within_tls_is_closed(target: Tresor) -> None:
    with others_are_served(target):
        for octets in [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", bytes(range(256)), PREFACE.lower(), bytes(9)]:
            with tls(target, "operator") as connection:
                connection.sendall(octets + bytes(64))
                assert is_closed(connection)


def test_connections_that_are_half_closed_or_reset_leave_nothing_behind(target: Tresor) -> None:
    """In each state: before the handshake, within it, after it, and with calls under way."""
    watch = message(v1.WatchChangesRequest(tenant="demo"))
    with others_are_served(target), ExitStack() as all_of_them:
        for number in range(100):
            before, within = (all_of_them.enter_context(tcp(target)) for _ in range(2))
            within.sendall(b"\x16\x03\x01\x02\x00\x01")
            after = all_of_them.enter_context(tls(target, "order-service"))
            busy = all_of_them.enter_context(Attacker.of(target))
            busy.push(busy.call(1, "WatchChanges", watch) + busy.headers(3, "ResolveForOrder"))
            for connection in [before, within, after, busy.connection]:
                if number % 2:
                    connection.shutdown(socket.SHUT_WR)
                else:
                    # With this, closing is a reset.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()
