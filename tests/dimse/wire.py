"""A peer that speaks PS3.8 byte by byte, so that it can also speak it wrongly."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage
from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

VERIFICATION = "1.2.840.10008.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.1.1"
RELEASE_RQ = struct.pack(">BBLL", 5, 0, 4, 0)
RELEASE_RP, ABORT = 6, 7

# Context IDs of `request`.
ECHO_ID, MR_ID, FIND_ID = 1, 3, 5


def request(contexts=None, title="WIRE", maximum=16384, items=()):
    """An A-ASSOCIATE-RQ; `contexts` are (ID, abstract syntax, transfer syntaxes)."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = title, "HILUM"
    proposed = []
    for number, abstract, syntaxes in contexts or contexts_of("own"):
        context = build_context(abstract, syntaxes)
        context.context_id = number
        proposed.append(context)
    primitive.presentation_context_definition_list = proposed
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = maximum
    implementation.implementation_class_uid = "1.2.3"
    primitive.user_information = [length, implementation, *items]
    return A_ASSOCIATE_RQ(primitive).encode()


def contexts_of(path):
    """What a peer proposes that is served by our own loop, or by pynetdicom."""
    contexts = [
        (ECHO_ID, VERIFICATION, [ImplicitVRLittleEndian]),
        (MR_ID, MRImageStorage, [ExplicitVRLittleEndian]),
    ]
    if path == "shared":
        contexts.append((FIND_ID, FIND, [ImplicitVRLittleEndian]))
    return contexts


def elements(*pairs):
    """A command set of (element, value), without its group length."""
    return b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in pairs)


def command(field, sop_class, instance=None, message=1, data_set=True):
    """A request's command set."""
    pairs = [
        (0x0002, uid(sop_class)),
        (0x0100, struct.pack("<H", field)),
        (0x0110, struct.pack("<H", message)),
        (0x0700, struct.pack("<H", 0)),
        (0x0800, struct.pack("<H", 1 if data_set else 0x0101)),
    ]
    if instance is not None:
        pairs.append((0x1000, uid(instance)))
    body = elements(*pairs)
    return elements((0, struct.pack("<L", len(body)))) + body


def uid(text):
    raw = text.encode("latin-1")
    return raw + b"\0" * (len(raw) % 2)


def pdv(context, control, fragment):
    return struct.pack(">LBB", len(fragment) + 2, context, control) + fragment


def p_data(*pdvs):
    body = b"".join(pdvs)
    return struct.pack(">BBL", 4, 0, len(body)) + body


def echo_request(message=1):
    return p_data(pdv(ECHO_ID, 3, command(0x30, VERIFICATION, message=message, data_set=False)))


@dataclass
class Answer:
    """A response's command set by element number."""

    context: int
    values: dict

    @property
    def status(self):
        return int.from_bytes(self.values[0x0900], "little")

    @property
    def field(self):
        return int.from_bytes(self.values[0x0100], "little")

    @property
    def answers(self):
        return int.from_bytes(self.values[0x0120], "little")

    @property
    def comment(self):
        return self.values.get(0x0902, b"").decode().rstrip()


class Wire:
    """A connection to a server."""

    def __init__(self, port, timeout=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def exactly(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError(f"closed after {len(data)} of {size} bytes")
            data += piece
        return data

    def pdu(self):
        """Type and body of the next PDU."""
        header = self.exactly(6)
        return header[0], self.exactly(int.from_bytes(header[2:], "big"))

    def associate(self, contexts=None, **settings):
        """Ask for an association that must be accepted; returns the A-ASSOCIATE-AC."""
        self.send(request(contexts, **settings))
        header = self.exactly(6)
        assert header[0] == 2, f"PDU type {header[0]}"
        accept = A_ASSOCIATE_AC()
        accept.decode(header + self.exactly(int.from_bytes(header[2:], "big")))
        return accept

    def answer(self):
        """The next response, and the sizes of the PDUs it came in."""
        whole = b""
        self.sizes = []
        while True:
            kind, body = self.pdu()
            assert kind == 4, f"PDU type {kind}: {body.hex()}"
            self.sizes.append(len(body))
            place = 0
            while place < len(body):
                length, context, control = struct.unpack_from(">LBB", body, place)
                whole += body[place + 6 : place + 4 + length]
                place += 4 + length
            if control & 2:
                return Answer(context, dict(_elements(whole)))

    def store(self, dataset_bytes, instance, sop_class=MRImageStorage, message=1, context=MR_ID):
        """A C-STORE in the plainest form; returns the answer."""
        self.send(p_data(pdv(context, 3, command(1, sop_class, instance, message))))
        for start in range(0, len(dataset_bytes), 100_000):
            piece = dataset_bytes[start : start + 100_000]
            last = start + 100_000 >= len(dataset_bytes)
            self.send(p_data(pdv(context, 2 if last else 0, piece)))
        return self.answer()

    def end(self, within=10):
        """What comes until the peer closes: b"" or an abort; None if it does not close in time."""
        self.socket.settimeout(within)
        received = b""
        try:
            while data := self.socket.recv(4096):
                received += data
        except ConnectionResetError:
            return received
        except TimeoutError:
            return None
        return received

    def release(self):
        """Release in order; whether it was answered and then closed."""
        self.send(RELEASE_RQ)
        return self.end() == struct.pack(">BBLL", RELEASE_RP, 0, 4, 0)


def _elements(data):
    place = 0
    while place < len(data):
        _, number, length = struct.unpack_from("<HHL", data, place)
        yield number, data[place + 8 : place + 8 + length]
        place += 8 + length
