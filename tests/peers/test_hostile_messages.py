"""Calls that look like calls and are none: lengths that lie, bombs, other protocols, requests that never end."""

from __future__ import annotations

import gzip
import time

import pytest
from hostile import WORST, Attacker, message, others_are_served
from hyperframe.frame import DataFrame, HeadersFrame
from support import Tresor, order, v1

REQUEST = v1.ResolveForOrderRequest(tenant="demo", provider="dat", order=order(office_id="leipzig"))
GOOD = message(REQUEST)
RESOLVE = "ResolveForOrder"
INVALID_ARGUMENT, DEADLINE_EXCEEDED, UNIMPLEMENTED = 3, 4, 12

MALFORMED = (INVALID_ARGUMENT, "MALFORMED_REQUEST")
TOO_LARGE = (INVALID_ARGUMENT, "REQUEST_TOO_LARGE")


def nested(depth: int) -> bytes:
    """A message in a message in a message."""
    body = b""
    for _ in range(depth):
        body = b"\x1a" + bytes([len(body) & 0x7F | 0x80, len(body) >> 7 & 0x7F | 0x80, len(body) >> 14]) + body
    return body


# Field 127, which nobody knows, opens a group and closes it.
OPEN, CLOSE = b"\xfb\x07", b"\xfc\x07"

BODIES = {
    "a length of 4 GiB": (message(REQUEST, length=0xFFFF_FFFF), TOO_LARGE),
    "a length just above the limit": (message(REQUEST, length=64 * 1024 + 1), TOO_LARGE),
    "nothing": (b"", MALFORMED),
    "half a prefix": (GOOD[:2], MALFORMED),
    "a message cut short": (GOOD[:-3], MALFORMED),
    "garbage after the message": (GOOD + b"garbage", MALFORMED),
    "compressed without saying how": (message(gzip.compress(b"\0" * 5_000), compressed=1), MALFORMED),
    "a flag that is none": (message(REQUEST, compressed=7), MALFORMED),
    "text that is not UTF-8": (message(b"\x0a\x02\xff\xfe"), MALFORMED),
    "a number without an end": (message(b"\x08" + b"\xff" * 20), MALFORMED),
    "a field that is longer than the message": (message(b"\x0a\xff\xff\xff\xff\x07x"), MALFORMED),
    "a thousand messages in each other": (message(nested(1_000)), MALFORMED),
    "groups that nobody knows, 10,000 deep": (message(OPEN * 10_000 + CLOSE * 10_000), MALFORMED),
    "groups that never end": (message(OPEN * 30_000), MALFORMED),
    "groups that never began": (message(CLOSE), MALFORMED),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_lies_is_refused_and_the_connection_goes_on(target: Tresor, case: str) -> None:
    body, expected = BODIES[case]
    with others_are_served(target), Attacker.of(target) as attacker:
        answer = attacker.ask(1, RESOLVE, body)
        assert (answer.code, answer.reason) == expected
        assert attacker.ask(3, RESOLVE, GOOD).code == 0


def test_a_bomb_is_not_unpacked(target: Tresor) -> None:
    """A gzip of 64 MiB of nothing."""
    bomb = message(gzip.compress(b"\0" * (64 << 20)), compressed=1)
    with others_are_served(target), Attacker.of(target) as attacker:
        answer = attacker.ask(1, RESOLVE, bomb, grpc_encoding="gzip")
        assert (answer.code, answer.reason) == (UNIMPLEMENTED, "UNSUPPORTED_ENCODING")
        assert attacker.ask(3, RESOLVE, GOOD).code == 0


# What a page of another site can send from the browser of somebody who has a certificate, and what is not gRPC at all.
NOT_GRPC = [
    ("POST", "text/plain", 415),
    ("POST", "application/x-www-form-urlencoded", 415),
    ("POST", "multipart/form-data; boundary=x", 415),
    ("POST", "application/json", 415),
    ("POST", "application/grpc-web", 415),
    ("GET", "application/grpc", 405),
    ("PUT", "application/grpc", 405),
    ("OPTIONS", "text/plain", 405),
]


@pytest.mark.parametrize("method, content_type, status", NOT_GRPC)
def test_what_is_not_grpc_calls_nothing(target: Tresor, method: str, content_type: str, status: int) -> None:
    put = v1.SetAssignmentRequest(tenant="browsed", provider="dat", mode=v1.ASSIGNMENT_MODE_PER_OFFICE)
    before = target.operator.revision()
    with Attacker.of(target, "operator") as browser:
        answer = browser.ask(1, "SetAssignment", message(put), **{":method": method, "content-type": content_type})
        assert (answer.headers[":status"], answer.code, answer.data) == (str(status), None, b"")
    assert target.operator.revision() == before


# Each is malformed HTTP/2 (RFC 9113, 8): the stream is reset, or the connection ends.
MALFORMED_HEADERS = {
    "a field name in upper case": {"X-UPPER": "1"},
    "a field about the connection": {"connection": "keep-alive"},
    "another encoding of the transfer": {"transfer-encoding": "chunked"},
    "a length that lies": {"content-length": "3"},
    "a path that is none": {":path": "https://dynarex.local/x"},
    "no path": {":path": ""},
    # Routed elsewhere, past the rules for paths with a slash (CVE-2026-33186).
    "a method's path without its first slash": {":path": "dynarex.credentials.v1.CredentialResolver/ResolveForOrder"},
    "an authority that is none": {":authority": "a\\@b"},
    "te that is not trailers": {"te": "gzip"},
}


@pytest.mark.parametrize("case", MALFORMED_HEADERS)
def test_malformed_headers_are_no_call(target: Tresor, case: str) -> None:
    with others_are_served(target), Attacker.of(target) as attacker:
        answer = attacker.ask(1, RESOLVE, GOOD, **MALFORMED_HEADERS[case])
        assert answer.code is None and not answer.data
        assert answer.reset is not None or attacker.is_closed


# What others have taken for the path of a method, or of none.
ODD_PATHS = [
    "//dynarex.credentials.v1.CredentialResolver/ResolveForOrder",
    "/dynarex.credentials.v1.CredentialResolver/ResolveForOrder/",
    "/dynarex.credentials.v1.CredentialAdmin/../CredentialResolver/ResolveForOrder",
    "/dynarex.credentials.v1.CredentialResolver/%52esolveForOrder",
    "/dynarex.credentials.v1.credentialresolver/resolvefororder",
    "/dynarex.credentials.v1.CredentialResolver/ResolveForOrder;x=y",
    "*",
]


@pytest.mark.parametrize("path", ODD_PATHS)
def test_a_path_that_is_almost_a_methods_is_no_methods(target: Tresor, path: str) -> None:
    with Attacker.of(target) as attacker:
        answer = attacker.ask(1, path, GOOD)
        assert (answer.code, answer.reason, answer.data) == (UNIMPLEMENTED, "UNKNOWN_METHOD", b"")


@pytest.mark.parametrize("certificate", ["order-service", None])
def test_a_long_path_is_not_repeated(target: Tresor, certificate: str | None) -> None:
    """Neither to its sender, whose headers would not fit, nor in the log, which would grow by it."""
    with Attacker.of(target, certificate) as attacker:
        answer = attacker.ask(1, "/" + "a" * 12_000)
        assert answer.code in (UNIMPLEMENTED, 16)
        assert sum(map(len, answer.headers.values())) < 2_000
    listed = [line for file in (target.data / "audit").glob("*.jsonl") for line in file.read_text().splitlines()]
    assert any('"method":"?"' in line for line in listed), "it is listed, but for its name"
    assert max(map(len, listed + target.stderr.splitlines())) < 2_000


def test_requests_that_never_end_are_ended(target: Tresor) -> None:
    """Half-open calls: headers and nothing else, or a body that stops in the middle. Their deadline ends them."""
    with others_are_served(target), Attacker.of(target) as attacker:
        half = message(REQUEST, length=64 * 1024)
        attacker.push(
            b"".join(
                attacker.headers(stream, RESOLVE, grpc_timeout="1S")
                + (DataFrame(stream, half).serialize() if stream % 4 == 1 else b"")
                for stream in range(1, 400, 2)
            )
        )
        answers = [attacker.answer(stream) for stream in range(1, 400, 2)]
        assert {(answer.code, answer.reason) for answer in answers} == {(DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")}


def test_coverage_checks_that_never_end_hold_nobody_up(target: Tresor) -> None:
    """Large ones are answered a few at a time; one that has not said much yet is not large."""
    with others_are_served(target), Attacker.of(target, "operator") as attacker:
        half = message(b"", length=64 * 1024) + b"x" * 1_000
        for stream in range(1, 40, 2):
            attacker.push(attacker.headers(stream, "CheckCoverage", grpc_timeout="30S") + attacker.data(stream, half))
        begun = time.monotonic()
        assert target.operator.CheckCoverage(tenant="demo", office_ids=["leipzig"]) is not None
        assert time.monotonic() - begun < WORST


def test_a_deadline_of_years_is_not_waited_for(target: Tresor) -> None:
    for text in ["99999999H", "0n", "-1S", "999999999S", "S", "1y"]:
        with Attacker.of(target) as attacker:
            assert attacker.ask(1, RESOLVE, GOOD, grpc_timeout=text).code in (0, DEADLINE_EXCEEDED)


FOR_EVERYBODY = ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]


@pytest.mark.parametrize("path", FOR_EVERYBODY)
def test_services_that_everybody_may_call_take_small_requests_only(target: Tresor, path: str) -> None:
    with others_are_served(target, growth=16 << 20), Attacker.of(target) as attacker:
        streams = range(1, 100, 2)
        for stream in streams:
            attacker.push(attacker.headers(stream, path) + attacker.data(stream, message(b"", length=4 << 20)))
        for stream in streams:
            answer = attacker.answer(stream)
            # A stream has begun to answer by then, and just ends.
            assert (answer.code, answer.reason) in (TOO_LARGE, (0, "")) and not answer.data


def test_trailers_of_a_request_are_ignored(target: Tresor) -> None:
    with Attacker.of(target) as attacker:
        fields = attacker.encode([("grpc-status", "0"), ("x-filler", "y" * 9_000)])
        trailers = HeadersFrame(1, fields, flags=["END_HEADERS", "END_STREAM"]).serialize()
        attacker.push(attacker.headers(1, RESOLVE) + DataFrame(1, GOOD).serialize() + trailers)
        assert attacker.answer(1).code == 0
