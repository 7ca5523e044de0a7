"""Splits the byte stream of a RabbitMQ connection with one consumer into messages.

py-amqp creates several objects for each message, which costs more than counting its event. Here only the content
type, the encoding and the body are read. The layouts are those of AMQP 0-9-1: frames in section 2.3.5, content in
4.2.6, method numbers in its reference.
"""

from struct import Struct, error

from exporters.events.sockets import DisconnectedError

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
# Connection.Close with reply code 200, without a text.
CLOSE = b"\x01\x00\x00\x00\x00\x00\x0b\x00\x0a\x00\x32\x00\xc8\x00\x00\x00\x00\x00\xce"
METHOD, HEADER, BODY = 1, 2, 3
FRAME_END = 0xCE
_HEAD = Struct(">BHI")
_IDS = Struct(">HH")
_CODE = Struct(">H")
_SIZE = Struct(">Q")
HEAD_SIZE, SIZE_AT, FLAGS_AT, PROPERTIES_AT = 7, 4, 12, 14
TYPE_FLAG, ENCODING_FLAG = 0x80, 0x40
# The first two properties of nearly every event.
USUAL = b"\x10application/json\x05utf-8"
USUAL_CONTENT = ("application/json", "utf-8")
# Methods that end the consumer: Connection.Close, Channel.Close, Basic.Cancel. The first two contain a reason.
CLOSING = {(10, 50), (20, 40)}
CANCEL = (60, 30)
# Bytes. RabbitMQ's largest frame is 128 kB by default, and no event comes near the longest body.
LONGEST_FRAME = 1 << 24
LONGEST_BODY = 1 << 24

# Content type, encoding, body.
Message = tuple[str, str, bytes]


class Deliveries:
    """The messages in a stream of bytes."""

    def __init__(self) -> None:
        self._rest = b""
        # The message whose body is arriving: its content, the number of missing bytes, the parts so far.
        self._content = ("", "")
        self._missing = 0
        self._parts: list[bytes] = []
        self._is_too_long = False

    def feed(self, data: bytes) -> list[Message]:
        """The messages that this data completes. One that is too long comes without its body.

        Raises:
            DisconnectedError: RabbitMQ has ended the connection or the consumer, or this is not AMQP.
        """
        try:
            return self._feed(self._rest + data if self._rest else data)
        except (error, IndexError):
            raise DisconnectedError("a malformed frame") from None

    def _feed(self, buffer: bytes) -> list[Message]:
        at, end, messages = 0, len(buffer), list[Message]()
        unpack_head = _HEAD.unpack_from
        while end - at > HEAD_SIZE:
            kind, _, size = unpack_head(buffer, at)
            first = at + HEAD_SIZE
            last = first + size
            if size > LONGEST_FRAME:
                raise DisconnectedError("not the AMQP protocol")
            if last >= end:
                break
            if buffer[last] != FRAME_END:
                raise DisconnectedError("not the AMQP protocol")
            at = last + 1
            if kind == BODY:
                self._body(buffer[first:last], messages)
            elif kind == HEADER:
                self._header(buffer[first:last], messages)
            elif kind == METHOD:
                _check_open(buffer[first:last])
        self._rest = buffer[at:]
        return messages

    def _header(self, header: bytes, messages: list[Message]) -> None:
        (self._missing,) = _SIZE.unpack_from(header, SIZE_AT)
        self._content = _content(header)
        self._parts = []
        self._is_too_long = self._missing > LONGEST_BODY
        if not self._missing:
            messages.append((*self._content, b""))

    def _body(self, part: bytes, messages: list[Message]) -> None:
        missing = self._missing = self._missing - len(part)
        if missing < 0:
            raise DisconnectedError("a body is longer than its header says")
        if not self._is_too_long:
            self._parts.append(part)
        if not missing:
            parts = self._parts
            messages.append((*self._content, parts[0] if len(parts) == 1 else b"".join(parts)))


def _content(header: bytes) -> tuple[str, str]:
    """Content type and encoding, the first of the properties."""
    flags = header[FLAGS_AT]
    if flags & TYPE_FLAG and flags & ENCODING_FLAG and header.startswith(USUAL, PROPERTIES_AT):
        return USUAL_CONTENT
    at, found = PROPERTIES_AT, ["", "utf-8"]
    for place, flag in enumerate((TYPE_FLAG, ENCODING_FLAG)):
        if flags & flag:
            length = header[at]
            found[place] = header[at + 1 : at + 1 + length].decode(errors="replace")
            at += 1 + length
    return found[0], found[1] or "utf-8"


def _check_open(method: bytes) -> None:
    ids = _IDS.unpack_from(method)
    if ids in CLOSING:
        (code,) = _CODE.unpack_from(method, _IDS.size)
        at = _IDS.size + _CODE.size
        text = method[at + 1 : at + 1 + method[at]].decode(errors="replace")
        raise DisconnectedError(f"closed by the broker: {code} {text}")
    if ids == CANCEL:
        raise DisconnectedError("the broker has cancelled the subscription")
