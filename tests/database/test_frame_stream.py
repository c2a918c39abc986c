"""Frames arrive as they were sent, however the socket cuts them; a large one takes no more than itself."""

import asyncio
import socket
import tracemalloc

import pytest

from sandboxd.database.frame_stream import FrameStream, FrameTooLarge
from sandboxd.database.protocol import HEADER

_SIZES = [0, 1, 5, 100, 65_531, 65_532, 65_533, 65_536, 200_000, 3, 1_500_000, 0, 7]


async def stream_pair(*, most: int = 64 << 20) -> tuple[FrameStream, socket.socket]:
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(lambda: FrameStream(max_frame_bytes=most), sock=ours)
    theirs.setblocking(False)
    return stream, theirs


def frame(body: bytes) -> bytes:
    return HEADER.pack(len(body)) + body


@pytest.mark.parametrize("cut", [1, 3, 1000, 65_536, 10_000_000])
async def test_frames_arrive_as_they_were_sent(cut: int) -> None:
    stream, peer = await stream_pair()
    sizes = [size for size in _SIZES if cut > 100 or size < 1000]
    bodies = [bytes([number]) * size for number, size in enumerate(sizes)]
    data = b"".join(map(frame, bodies))

    async def send() -> None:
        for start in range(0, len(data), cut):
            await asyncio.get_running_loop().sock_sendall(peer, data[start : start + cut])

    sending = asyncio.create_task(send())
    assert [bytes(await stream.receive()) for _ in bodies] == bodies
    await sending
    peer.close()
    with pytest.raises(ConnectionError):
        await stream.receive()


async def test_frame_beyond_the_largest_ends_the_stream_unread() -> None:
    stream, peer = await stream_pair(most=1000)
    peer.sendall(frame(b"x") + HEADER.pack(1001))
    assert await stream.receive() == b"x"
    with pytest.raises(FrameTooLarge):
        await stream.receive()
    peer.close()


async def test_large_frame_costs_no_copy() -> None:
    stream, peer = await stream_pair()
    size = 16 << 20
    body = bytes(size)
    tracemalloc.start()
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(peer, frame(body)))
    before = tracemalloc.get_traced_memory()[0]
    received = await stream.receive()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    await sending
    peer.close()
    stream.close()
    assert len(received) == size
    assert peak - before < 2.2 * size  # it, and the frame that this test itself puts together


async def test_peer_that_does_not_read_makes_the_sender_wait() -> None:
    stream, peer = await stream_pair()
    sending = asyncio.create_task(stream.send(bytes(8 << 20)))
    done, _ = await asyncio.wait([sending], timeout=0.05)
    assert not done
    peer.close()
    with pytest.raises(ConnectionError):
        await sending
