"""What a guest has not taken yet is kept in pieces and arrives whole and in order."""

import socket
from contextlib import suppress

import msgspec

from sandboxd.channel.framing import EncodedMessage, receive_host_message
from sandboxd.channel.messages import CallReply
from sandboxd.channel.packed import NumbersColumn
from sandboxd.channel.query import QueryReply, ResultColumn, decode_payload, query_reply_frame
from sandboxd.supervisor.backlog import Backlog


def test_pieces_that_a_full_socket_splits_arrive_whole() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    pieces = (b"head", bytes(range(256)) * 8000, b"", b"tail" * 100_000)
    backlog = Backlog()
    backlog.add(EncodedMessage(pieces))
    wanted = b"".join(pieces)
    assert len(backlog) == len(wanted)
    received = bytearray()
    with ours, theirs:
        while backlog:
            with suppress(BlockingIOError):
                backlog.send(ours)
            received += theirs.recv(1 << 20)
        while len(received) < len(wanted):
            received += theirs.recv(1 << 20)
    assert received == wanted


def test_reply_in_pieces_is_the_reply_that_the_guest_knows() -> None:
    columns = [NumbersColumn("int64", b"\1" + bytes(7), b"")]
    whole = QueryReply(
        columns=[ResultColumn(name="n", db_type="int8")], data=list(columns), total_rows=1, warnings=["w"]
    )
    bare = QueryReply(columns=whole.columns, data=[], total_rows=1, warnings=["w"])
    message = query_reply_frame(7, bare, memoryview(msgspec.msgpack.encode(columns)))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"".join(message.pieces))
        reply = receive_host_message(theirs)
    assert isinstance(reply, CallReply)
    assert reply.call_id == 7
    assert decode_payload(reply.payload, QueryReply) == whole
