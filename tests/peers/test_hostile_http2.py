"""Frames that no honest client sends, from a caller who has a certificate, and from one who has none."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable

import pytest
from hostile import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Attacker,
    message,
    others_are_served,
)
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from support import Tresor, login, office, ref, v1, wait_for

CALLERS = pytest.mark.parametrize("certificate", ["order-service", None])

# How long a flood goes on if nobody ends it, in seconds.
FLOOD = 0.5


def flood(attacker: Attacker, burst: bytes) -> None:
    """Sends the burst over and over, until the time is over, the other end takes no more, or has closed the connection."""
    end = time.monotonic() + FLOOD
    attacker.connection.settimeout(FLOOD)
    try:
        while time.monotonic() < end:
            attacker.connection.sendall(burst)
    except OSError:
        pass


def streams(count: int) -> range:
    """The numbers of that many streams."""
    return range(1, 2 * count, 2)


# Frames that ask for nothing, or for an answer that the attacker does not read.
IDLE_FLOODS = {
    "pings (CVE-2019-9512)": PingFrame(0, opaque_data=b"whatever").serialize(),
    "settings (CVE-2019-9515)": SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65_535}).serialize(),
    "empty settings": SettingsFrame(0).serialize(),
    "acknowledgements of nothing": SettingsFrame(0, flags=["ACK"]).serialize(),
    "priorities (CVE-2019-9513)": b"".join(
        PriorityFrame(stream, depends_on=stream - 2, stream_weight=stream % 256).serialize()
        for stream in range(3, 203, 2)
    ),
    "windows": WindowUpdateFrame(0, window_increment=1).serialize(),
    "frames of no known kind": b"\x00\x00\x08\xee\x00\x00\x00\x00\x00whatever",
}


@CALLERS
@pytest.mark.parametrize("case", IDLE_FLOODS)
def test_frames_that_ask_for_nothing_cost_others_nothing(target: Tresor, case: str, certificate: str | None) -> None:
    with others_are_served(target, growth=32 << 20), Attacker.of(target, certificate) as attacker:
        flood(attacker, IDLE_FLOODS[case] * 500)


# Each gives the frames that come over and over once a call has begun on stream 1; the connection is closed for it.
CALL_FLOODS: dict[str, Callable[[Attacker], bytes]] = {
    "empty continuations (CVE-2024-27316)": lambda attacker: ContinuationFrame(1, b"").serialize() * 100,
    "large continuations (CVE-2024-27316)": lambda attacker: ContinuationFrame(
        1, (b"\x00\x01a\x7f\xe1\x7e" + b"x" * (FRAME - 6))
    ).serialize(),
    "empty data (CVE-2019-9518)": lambda attacker: DataFrame(1, b"").serialize() * 500,
    "data that is only padding": lambda attacker: DataFrame(1, b"", pad_length=255, flags=["PADDED"]).serialize() * 60,
}


@CALLERS
@pytest.mark.parametrize("case", CALL_FLOODS)
def test_a_call_whose_request_never_comes_to_its_end_ends_the_connection(
    target: Tresor, case: str, certificate: str | None
) -> None:
    with others_are_served(target, growth=32 << 20), Attacker.of(target, certificate) as attacker:
        if "continuations" in case:
            attacker.push(HeadersFrame(1, attacker.encode([(":method", "POST")])).serialize())
        else:
            attacker.push(attacker.headers(1))
        burst = CALL_FLOODS[case](attacker)
        for _ in range(2_000):
            if not attacker.push(burst):
                break
        attacker.end()


def reset(stream: int) -> bytes:
    return RstStreamFrame(stream, error_code=8).serialize()


# Each begins a call and sees to it that it is reset, by one side or the other.
RESETS: dict[str, Callable[[Attacker, int], bytes]] = {
    "by the client at once (CVE-2023-44487)": lambda attacker, stream: attacker.headers(stream) + reset(stream),
    "by the client after the request": lambda attacker, stream: attacker.call(stream, "ListProviders") + reset(stream),
    "by the server for a window of nothing (CVE-2025-8671)": lambda attacker, stream: attacker.headers(stream)
    + struct.pack(">BHBBII", 0, 4, 8, 0, stream, 0),
    "by the server for data after the end (CVE-2025-8671)": lambda attacker, stream: attacker.headers(stream, end=True)
    + DataFrame(stream, b"x").serialize(),
}


@CALLERS
@pytest.mark.parametrize("case", RESETS)
def test_calls_that_are_reset_over_and_over_end_the_connection(
    target: Tresor, case: str, certificate: str | None
) -> None:
    with others_are_served(target, growth=32 << 20), Attacker.of(target, certificate) as attacker:
        attacker.push(b"".join(RESETS[case](attacker, stream) for stream in streams(3_000)))
        # What is still on its way to a connection that is closed can swallow the reason.
        assert attacker.end() in (None, ENHANCE_YOUR_CALM, PROTOCOL_ERROR)


def test_changes_that_are_reset_over_and_over_come_to_their_end_and_are_listed(target: Tresor) -> None:
    """Whoever asks for a change and takes it back while it is under way leaves no change of which the audit log has only that
    its caller went, and none that grows without a bound."""
    with others_are_served(target, growth=32 << 20):
        for connection in range(5):
            with Attacker.of(target, "operator") as attacker:
                for some in range(20):
                    saves = streams(200)[some * 8 : some * 8 + 8]
                    named = [ref("fickle", "wom", office(f"{connection}-{stream}")) for stream in saves]
                    puts = [v1.PutCredentialRequest(ref=name, login=login()) for name in named]
                    bodies = zip(saves, puts, strict=True)
                    attacker.push(b"".join(attacker.call(one, "PutCredential", message(put)) for one, put in bodies))
                    # As long as a save takes here, more or less.
                    time.sleep(some % 5 / 1_000)
                    if not attacker.push(b"".join(reset(stream) for stream in saves)):
                        break
    stored = {one.path for one in target.operator.ListCredentials(tenant="fickle", page_size=1000).credentials}
    assert stored, "nothing was ever under way"
    intents: dict[int, str] = {}
    outcomes: dict[int, list[dict]] = {}

    def is_all_told() -> bool:
        for file in sorted((target.data / "audit").glob("audit-*.jsonl")):
            for line in map(json.loads, file.read_bytes().splitlines()):
                if line.get("tenant") != "fickle" or line.get("method") != "PutCredential":
                    continue
                if line["event"] == "intent":
                    intents[line["seq"]] = f"fickle/wom/{line['scope']}"
                elif "intent" in line:
                    told = outcomes.setdefault(line["intent"], [])
                    if line not in told:
                        told.append(line)
        return {path for intent, path in intents.items() if is_saved(intent)} == stored

    def is_saved(intent: int) -> bool:
        return any(line["outcome"] == "ok" for line in outcomes.get(intent, []))

    wait_for(is_all_told, "a line for each change that was made")
    left = [intent for intent, told in outcomes.items() if any(line.get("reason") == "NOT_FINISHED" for line in told)]
    assert left, "none was left while it was under way"
    assert all(is_saved(intent) for intent in left), "a change came to no end"


@CALLERS
def test_windows_that_overflow_reset_only_their_streams(target: Tresor, certificate: str | None) -> None:
    """CVE-2025-8671 once more, in the way that the server answers with a reset and goes on."""
    with others_are_served(target, growth=32 << 20), Attacker.of(target, certificate) as attacker:
        head = WindowUpdateFrame(1, window_increment=1).serialize()[:5]
        for stream in streams(2_000):
            frame = head + struct.pack(">II", stream, 2**31 - 1)
            if not attacker.push(attacker.headers(stream) + frame):
                break
        attacker.read(lambda: len(attacker.answers) >= 2_000, 5)
        assert {answer.reset for answer in attacker.answers.values()} <= {FLOW_CONTROL_ERROR, REFUSED_STREAM, None}
        assert not any(answer.data for answer in attacker.answers.values())


# Headers that are too large once they are unpacked, however small they were.
LARGE_HEADERS: dict[str, Callable[[Attacker], bytes]] = {
    "one of 20,000 bytes": lambda attacker: attacker.encode([("x-filler", "x" * 15_900)])
    + attacker.encode([("x-filler", "y" * 300)]),
    "thousands": lambda attacker: attacker.encode([(f"x-{number}", "") for number in range(1_500)]),
    # CVE-2016-6581: an entry of the table, and then references to it.
    "one of 4,000 bytes, thousands of times": lambda attacker: attacker.encode([("x", "y" * 4_000)], huffman=False)
    + b"\xbe" * 12_000,
    "thousands of crumbs of a cookie (CVE-2019-9517's cousin)": lambda attacker: b"\x60\x00" * 8_000,
}


@pytest.mark.parametrize("case", LARGE_HEADERS)
def test_headers_of_more_than_16_kib_are_no_call(target: Tresor, case: str) -> None:
    with others_are_served(target, growth=32 << 20), Attacker.of(target) as attacker:
        pseudo = [(":method", "POST"), (":scheme", "https"), (":path", "/x"), (":authority", "localhost")]
        block = attacker.encode(pseudo) + LARGE_HEADERS[case](attacker)
        parts = [block[begin : begin + FRAME] for begin in range(0, len(block), FRAME)]
        frames = [HeadersFrame(1, parts[0], flags=["END_STREAM"])]
        frames += [ContinuationFrame(1, part) for part in parts[1:]]
        frames[-1].flags.add("END_HEADERS")
        attacker.push(b"".join(frame.serialize() for frame in frames))
        answer = attacker.answer(1)
        # 431: request header fields too large.
        assert answer.headers.get(":status") == "431" or answer.reset is not None or attacker.is_closed
        assert answer.code is None


def test_headers_just_below_the_limit_are_a_call(target: Tresor) -> None:
    with Attacker.of(target) as attacker:
        assert attacker.ask(1, x_filler="x" * 12_000).code == 0


# What no peer may send (RFC 9113), and what the connection must not survive.
BREACHES: dict[str, Callable[[Attacker], bytes]] = {
    "a promise by the client": lambda attacker: PushPromiseFrame(1, promised_stream_id=2, data=b"").serialize(),
    "a stream of the server": lambda attacker: attacker.headers(2),
    "a stream that is older than the last": lambda attacker: attacker.headers(5, end=True) + attacker.headers(3),
    "data for the connection": lambda attacker: b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x",
    "data for a stream that nobody has opened": lambda attacker: DataFrame(7, b"x").serialize(),
    "a frame of 16 MiB": lambda attacker: b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "a ping of the wrong length": lambda attacker: b"\x00\x00\x07\x06\x00\x00\x00\x00\x00whateve",
    "frames too small to be in place": lambda attacker: SettingsFrame(0, settings={5: 1}).serialize(),
    "a window that overflows": lambda attacker: WindowUpdateFrame(0, window_increment=2**31 - 1).serialize(),
    "a window of a stream that settings make overflow": lambda attacker: attacker.headers(1)
    + WindowUpdateFrame(1, window_increment=2**31 - 1 - 65_535).serialize()
    + SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 2**31 - 1}).serialize(),
    "an index that is not in the table": lambda attacker: HeadersFrame(
        1, b"\xff\xff\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"]
    ).serialize(),
    "a table of 256 MiB": lambda attacker: HeadersFrame(
        1, b"\x3f\xff\xff\xff\x7f" + attacker.encode([(":method", "POST")]), flags=["END_HEADERS"]
    ).serialize(),
    "a continuation of nothing": lambda attacker: ContinuationFrame(1, b"", flags=["END_HEADERS"]).serialize(),
    "something between headers": lambda attacker: HeadersFrame(1, b"").serialize()
    + PingFrame(0, opaque_data=b"whatever").serialize(),
}


@pytest.mark.parametrize("case", BREACHES)
def test_a_breach_of_the_protocol_ends_the_connection(target: Tresor, case: str) -> None:
    with others_are_served(target, growth=32 << 20), Attacker.of(target) as attacker:
        attacker.push(BREACHES[case](attacker))
        assert attacker.end() != 0


def test_more_data_than_the_window_takes_is_not_held(target: Tresor) -> None:
    """Data for which there is no room ends the connection (RFC 9113, 6.9.1). The call is over as soon as its message says
    how large it would be; a server that throws away what still comes for it, and so has room, may go on instead."""
    with others_are_served(target, growth=32 << 20), Attacker.of(target) as attacker:
        attacker.push(attacker.headers(1, "WatchChanges") + attacker.data(1, message(length=2**31 - 1)))
        burst = attacker.data(1, b"x" * (4 << 20))
        for _ in range(16):
            if not attacker.push(burst):
                break
        last = attacker.ask(3)
        if attacker.is_closed:
            # What is still on its way to a connection that is closed can swallow the reason.
            assert attacker.goaway in (None, FLOW_CONTROL_ERROR)
        else:
            assert attacker.answers[1].is_over and last.code == 0


@CALLERS
def test_streams_beyond_the_limit_are_refused_one_by_one(target: Tresor, certificate: str | None) -> None:
    """A thousand at once, of which 256 may be open; 64 of whoever has no identity."""
    limit = 256 if certificate else 64
    with others_are_served(target, growth=32 << 20), Attacker.of(target, certificate) as attacker:
        attacker.push(b"".join(attacker.headers(stream, grpc_timeout="1S") for stream in streams(1_000)))
        attacker.read(lambda: len(attacker.answers) == 1_000 and all(one.is_over for one in attacker.answers.values()))
        refused = [answer for answer in attacker.answers.values() if answer.reset == REFUSED_STREAM]
        assert len(refused) == 1_000 - limit
        if certificate:
            # The connection lives on, and so does its caller.
            assert attacker.ask(2_001).code == 0
        else:
            # It has had all the calls that a connection may make like that.
            attacker.push(attacker.call(2_001, "GetStatus"))
            attacker.end()


@CALLERS
def test_thousands_of_streams_beyond_the_limit_end_the_connection(target: Tresor, certificate: str | None) -> None:
    """An honest client knows the limit."""
    with others_are_served(target, growth=32 << 20), Attacker.of(target, certificate) as attacker:
        attacker.push(b"".join(attacker.headers(stream) for stream in streams(5_000)))
        assert attacker.end() in (None, ENHANCE_YOUR_CALM)


def test_answers_that_cannot_be_sent_wait_without_holding_others_up(target: Tresor) -> None:
    """A window of nothing: every stream that the connection may have waits for room to answer in."""
    with others_are_served(target, growth=32 << 20), Attacker.of(target, "operator", window=0) as attacker:
        attacker.push(b"".join(attacker.call(stream, "ListProviders") for stream in streams(256)))
        attacker.read(lambda: len(attacker.answers) == 256)
        assert not any(answer.data for answer in attacker.answers.values())
        attacker.push(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65_535}).serialize())
        attacker.push(WindowUpdateFrame(0, window_increment=1 << 28).serialize())
        assert {attacker.answer(stream).code for stream in streams(256)} == {0}
