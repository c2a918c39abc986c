"""The decoder takes anything a hostile guest can send and never fails with more than `ChannelBroken`."""

import socket

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxd.channel import messages, values
from sandboxd.channel.framing import (
    ChannelBroken,
    FrameBuffer,
    decode_guest_message,
    encode_frame,
    receive_host_message,
)

_json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)
_tags = ["ready", "setup_failed", "log", "inspected", "log_dropped", "finished", "state", "call"]
_fields = [name for kind in (messages.LogEntry, messages.Finished, messages.Call, messages.Inspected)
           for name in kind.__struct_fields__]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_are_a_message_or_a_broken_channel(body: bytes) -> None:
    _decode(body)


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.sampled_from(["type", *_fields]), _json_like | st.sampled_from(_tags), max_size=8))
def test_any_map_is_a_message_or_a_broken_channel(body: dict[str, object]) -> None:
    _decode(msgspec.msgpack.encode(body))


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1x", b"\xdd\x00\x00\x00\x01"])
@pytest.mark.parametrize("levels", [10, 500, 5_000, 300_000])
def test_deep_nesting_is_a_broken_channel(opening: bytes, levels: int) -> None:
    with pytest.raises(ChannelBroken):
        decode_guest_message(opening * levels + b"\xc0")


@pytest.mark.parametrize("depth", range(0, 60, 3))
def test_values_are_taken_up_to_a_depth(depth: int) -> None:
    value: values.Value = values.NullValue()
    for _ in range(depth):
        value = values.ListValue([value], 1)
    body = msgspec.msgpack.encode(messages.Finished(run_id=1, value=value))
    if 2 * depth <= values.MAX_WIRE_DEPTH:
        assert decode_guest_message(body) == messages.Finished(run_id=1, value=value)
    else:
        with pytest.raises(ChannelBroken):
            decode_guest_message(body)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=20), st.data())
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    bodies: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    buffer = FrameBuffer(max_frame_bytes=200)
    found = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += list(buffer.feed(stream[:size]))
        stream = stream[size:]
    assert found == bodies


def test_a_frame_above_the_cap_is_refused_before_it_is_buffered() -> None:
    buffer = FrameBuffer(max_frame_bytes=100)
    with pytest.raises(ChannelBroken, match="frame of 101 bytes"):
        list(buffer.feed((101).to_bytes(4, "big")))


def test_many_tiny_frames_cost_no_more_than_their_size() -> None:
    frames = b"\x00\x00\x00\x00" * 250_000
    assert sum(1 for _ in FrameBuffer(max_frame_bytes=10).feed(frames)) == 250_000


def test_a_host_message_survives_the_way_and_a_closed_channel_is_none() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            message = messages.Run(run_id=7, source="x" * 100_000, label="<execution 7>")
            ours.sendall(encode_frame(message))
            assert receive_host_message(theirs) == message
        assert receive_host_message(theirs) is None


def _decode(body: bytes) -> None:
    try:
        message = decode_guest_message(body)
    except ChannelBroken:
        return
    assert type(message).__module__.startswith("sandboxd.channel")
