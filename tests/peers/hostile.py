"""The vocabulary of the hostile tests: an attacker that speaks raw TLS and raw HTTP/2, and the others beside it."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hpack
from contract import RPCS
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame
from support import TIMEOUT, Tresor, wait_for

# The largest frame that everybody takes (RFC 9113, 4.2).
FRAME = 16_384
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# What HTTP/2 calls its errors (RFC 9113, 7).
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM = 0x1, 0x3, 0x7, 0xB

# Where those come from who only want to be served, so that they are not taken for the attacker.
NEIGHBOUR = "127.0.0.2"

MIB = 1024 * 1024
# What a vault may grow by under an attack, in bytes: far less than any of these attacks sends or asks for.
GROWTH = 96 * MIB
# How long somebody beside an attack may wait for an answer, in seconds: at most, and usually.
WORST, USUAL = 5, 1


def path_of(rpc: str) -> str:
    """Where a call of the contract goes."""
    return f"/{RPCS[rpc].containing_service.full_name}/{rpc}"


def message(body: bytes | Message = b"", compressed: int = 0, length: int | None = None) -> bytes:
    """A gRPC message with its prefix; `length` is what the prefix claims."""
    body = body if isinstance(body, bytes) else body.SerializeToString()
    return struct.pack(">BI", compressed, len(body) if length is None else length) + body


def context_of(tresor: Tresor, certificate: Path | str | None, key: Path | None = None) -> ssl.SSLContext:
    """TLS for a client that shows this certificate: a name of the vault's own, or a file and its key."""
    context = ssl.create_default_context(cafile=tresor.pki / "ca.pem")
    context.set_alpn_protocols(["h2"])
    # What is too weak is for the vault to say, not for OpenSSL on this side.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if isinstance(certificate, str):
        certificate, key = tresor.pki / f"{certificate}.pem", tresor.pki / f"{certificate}.key"
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


def tcp(tresor: Tresor, source: str = "127.0.0.1") -> socket.socket:
    """A connection without TLS to the main listener, from that address."""
    connection = socket.create_connection(("127.0.0.1", tresor.port), TIMEOUT, (source, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def tls(
    tresor: Tresor, certificate: str | None, context: ssl.SSLContext | None = None, source: str = "127.0.0.1"
) -> ssl.SSLSocket:
    """A connection whose handshake is done as far as the client can tell."""
    context = context or context_of(tresor, certificate)
    return context.wrap_socket(tcp(tresor, source), server_hostname="localhost")


def is_closed(connection: socket.socket, seconds: float = TIMEOUT) -> bool:
    """Whether the other end closes the connection within that time."""
    deadline = time.monotonic() + seconds
    try:
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(65536):
                return True
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


class Answer:
    """What came back on one stream."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.data = b""
        self.reset: int | None = None
        self.is_over = False

    @property
    def code(self) -> int | None:
        """The gRPC code, if there is one."""
        return int(self.headers["grpc-status"]) if "grpc-status" in self.headers else None

    @property
    def reason(self) -> str:
        """The reason that the rich error model gives."""
        info = error_details_pb2.ErrorInfo()
        # gRPC's binary headers are base64 with or without padding.
        encoded = self.headers.get("grpc-status-details-bin", "") + "=="
        for detail in status_pb2.Status.FromString(base64.b64decode(encoded)).details:
            detail.Unpack(info)
        return info.reason


class Attacker:
    """One HTTP/2 connection on which every frame is the test's own."""

    def __init__(self, connection: socket.socket, settings: dict[int, int] | None = None) -> None:
        self.connection = connection
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.pongs = 0
        self.is_closed = False
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self.encode = self._encoder.encode
        self._received = b""
        self._block = b""
        self.push(PREFACE + SettingsFrame(0, settings=settings or {}).serialize())

    @staticmethod
    def of(tresor: Tresor, certificate: str | None = "order-service", **settings: int) -> Attacker:
        """Connects; with a certificate of the vault's own authority, or with none."""
        known = {"window": SettingsFrame.INITIAL_WINDOW_SIZE}
        return Attacker(tls(tresor, certificate), {known[name]: value for name, value in settings.items()})

    def push(self, octets: bytes) -> bool:
        """Sends as much as the other end takes; false if it takes no more."""
        try:
            self.connection.settimeout(TIMEOUT)
            self.connection.sendall(octets)
        except OSError:
            self.is_closed = True
        return not self.is_closed

    def headers(self, stream: int, rpc: str = "GetSigningKeys", end: bool = False, **more: str) -> bytes:
        """The frame that opens a call."""
        fields = {
            ":method": "POST",
            ":scheme": "https",
            ":path": path_of(rpc) if rpc in RPCS else rpc,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
        } | {name.replace("_", "-"): value for name, value in more.items()}
        frame = HeadersFrame(stream, self._encoder.encode(fields.items()), flags=["END_HEADERS"])
        if end:
            frame.flags.add("END_STREAM")
        return frame.serialize()

    def data(self, stream: int, octets: bytes, end: bool = False) -> bytes:
        """As many frames as that takes."""
        parts = [octets[begin : begin + FRAME] for begin in range(0, len(octets), FRAME)] or [b""]
        frames = [DataFrame(stream, part) for part in parts]
        if end:
            frames[-1].flags.add("END_STREAM")
        return b"".join(frame.serialize() for frame in frames)

    def call(self, stream: int, rpc: str = "GetSigningKeys", body: bytes | None = None, **more: str) -> bytes:
        """The frames of a whole call with one message."""
        return self.headers(stream, rpc, **more) + self.data(stream, message() if body is None else body, end=True)

    def answer(self, stream: int) -> Answer:
        """Waits for the whole answer on this stream, or for the end of the connection."""
        self.read(lambda: stream in self.answers and self.answers[stream].is_over)
        return self.answers.get(stream, Answer())

    def next_stream(self) -> int:
        """A stream that has not been used."""
        return max(self.answers, default=-1) + 2

    def ask(self, stream: int, rpc: str = "GetSigningKeys", body: bytes | None = None, **more: str) -> Answer:
        """One whole call and its answer."""
        self.push(self.call(stream, rpc, body, **more))
        return self.answer(stream)

    def end(self, seconds: float = TIMEOUT) -> int | None:
        """Waits for the server to end the connection; the error that its GOAWAY tells, if it has sent one."""
        self.read(lambda: False, seconds)
        assert self.is_closed, f"it is still open after {seconds} s"
        return self.goaway

    def read(self, is_enough, seconds: float = TIMEOUT) -> None:
        """Takes in what comes until that is enough, the time is over or the connection is."""
        deadline = time.monotonic() + seconds
        while not is_enough() and not self.is_closed and (left := deadline - time.monotonic()) > 0:
            self.connection.settimeout(left)
            try:
                received = self.connection.recv(65536)
            except TimeoutError:
                return
            except OSError:
                received = b""
            self.is_closed = not received
            self._received += received
            self._take_frames()

    def _take_frames(self) -> None:
        while len(self._received) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._received[:9]))
            if len(self._received) < 9 + length:
                return
            frame.parse_body(memoryview(self._received[9 : 9 + length]))
            self._received = self._received[9 + length :]
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, GoAwayFrame):
            self.goaway = frame.error_code
        elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self.push(SettingsFrame(0, flags=["ACK"]).serialize())
        elif isinstance(frame, PingFrame):
            if "ACK" in frame.flags:
                self.pongs += 1
            else:
                self.push(PingFrame(0, opaque_data=frame.opaque_data, flags=["ACK"]).serialize())
        elif frame.stream_id:
            self._take_answer(frame)

    def _take_answer(self, frame: Frame) -> None:
        answer = self.answers.setdefault(frame.stream_id, Answer())
        if isinstance(frame, RstStreamFrame):
            # A server that has answered may ask the client to stop sending; the answer stands.
            answer.reset = answer.reset if answer.is_over else frame.error_code
            answer.is_over = True
        elif isinstance(frame, DataFrame):
            answer.data += frame.data
        elif isinstance(frame, HeadersFrame):
            assert "END_HEADERS" in frame.flags, "answers of this server fit into one frame"
            answer.headers |= dict(self._decoder.decode(frame.data))
        answer.is_over |= "END_STREAM" in frame.flags

    def __enter__(self) -> Attacker:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def _memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def open_files(tresor: Tresor) -> int:
    """How many files and sockets the vault has open."""
    return len(os.listdir(f"/proc/{tresor.process.pid}/fd"))


class _Neighbour(threading.Thread):
    """Somebody who only wants to be served: on a connection that it has, and on a new one each time."""

    def __init__(self, tresor: Tresor) -> None:
        super().__init__(daemon=True)
        self.tresor = tresor
        self.context = context_of(tresor, "operator")
        self.is_enough = threading.Event()
        self.waits: list[float] = []
        self.trouble: Exception | None = None

    def run(self) -> None:
        try:
            while not self.is_enough.is_set():
                self.ask()
                self.is_enough.wait(0.05)
        except Exception as trouble:
            self.trouble = trouble

    def ask(self) -> None:
        begun = time.monotonic()
        assert self.tresor.operator.resolve("demo", office_id="leipzig").credential.version > 0
        half_time = time.monotonic()
        with Attacker(tls(self.tresor, None, self.context, NEIGHBOUR)) as newcomer:
            assert newcomer.ask(1).code == 0, (newcomer.goaway, newcomer.is_closed)
        self.waits += [half_time - begun, time.monotonic() - half_time]


@contextmanager
def others_are_served(tresor: Tresor, growth: int = GROWTH) -> Iterator[None]:
    """Insists that beside and after what is done within, others are served promptly, and that the vault has stayed well:
    alive, without a panic, not much larger, and with no more open files than before."""
    pid = tresor.process.pid
    _Neighbour(tresor).ask()
    memory, files = _memory(pid), _settled_files(tresor)
    neighbour = _Neighbour(tresor)
    neighbour.start()
    try:
        yield
        memory_under_attack = _memory(pid)
    finally:
        # At least once while the attack goes on and once when it is over.
        neighbour.is_enough.set()
        neighbour.join(TIMEOUT)
    assert not neighbour.is_alive(), "somebody still waits for an answer"
    if neighbour.trouble:
        raise AssertionError("somebody beside the attack was not served") from neighbour.trouble
    _Neighbour(tresor).ask()
    assert max(neighbour.waits) < WORST, f"an answer took {max(neighbour.waits):.2f} s"
    assert statistics.median(neighbour.waits) < USUAL, f"an answer usually took {statistics.median(neighbour.waits):.2f} s"
    assert tresor.process.poll() is None, tresor.stderr
    assert "panicked" not in tresor.stderr
    grown = max(memory_under_attack, _memory(pid)) - memory
    assert grown < growth, f"the vault has grown by {grown / MIB:.0f} MiB"
    wait_for(lambda: open_files(tresor) <= files, f"no more than {files} open files")


def _settled_files(tresor: Tresor) -> int:
    """How many files are open once what is being closed has been closed."""
    before = -1
    while (now := open_files(tresor)) != before:
        before = now
        time.sleep(0.1)
    return now
