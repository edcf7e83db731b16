"""A name server (RFC 1035) in a container's network, for the few names that a test gives it."""

from __future__ import annotations

import socket
import threading

from container import Network

A = 1


class NameServer:
    """Answers on port 53 of the container's loopback interface. As a context manager it ends with its block."""

    def __init__(self, pid: int, addresses: dict[str, str]) -> None:
        self._network = Network(pid)
        self._addresses = addresses
        self._is_bound = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> NameServer:
        self._thread.start()
        assert self._is_bound.wait(10), "the name server has no socket"
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _serve(self) -> None:
        self._network.enter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 53))
        self._socket.settimeout(0.1)
        self._is_bound.set()
        while True:
            try:
                question, sender = self._socket.recvfrom(512)
            except TimeoutError:
                continue
            except OSError:
                return
            self._socket.sendto(self._answer(question), sender)

    def _answer(self, question: bytes) -> bytes:
        labels, place = [], 12
        while length := question[place]:
            labels.append(question[place + 1 : place + 1 + length].decode())
            place += 1 + length
        end = place + 5
        kind = int.from_bytes(question[place + 1 : place + 3], "big")
        address = self._addresses.get(".".join(labels))
        answers = [address] if address and kind == A else []
        # A response, recursion there; no such name, if it is none of ours.
        flags = 0x8180 if address else 0x8183
        head = question[:2] + b"".join(number.to_bytes(2, "big") for number in (flags, 1, len(answers), 0, 0))
        records = (b"\xc0\x0c" + A.to_bytes(2, "big") + b"\0\x01" + (60).to_bytes(4, "big") + b"\0\x04" + socket.inet_aton(each) for each in answers)
        return head + question[12:end] + b"".join(records)
