"""Head and tail of a stream against the obvious way to compute them."""

from hypothesis import given
from hypothesis import strategies as st

from sandboxd.executions.output import HeadAndTail


@given(st.lists(st.binary(max_size=40), max_size=40), st.integers(1, 100))
def test_head_and_tail_are_what_slicing_the_whole_gives(pieces: list[bytes], limit: int) -> None:
    kept = HeadAndTail(limit=limit)
    for piece in pieces:
        kept.add(piece)
    whole = b"".join(pieces)
    output = kept.output()
    assert output.total_bytes == len(whole)
    if len(whole) <= limit:
        assert output.data == whole
        assert not output.truncated
    else:
        tail = limit // 2
        head = limit - tail
        assert output.data == whole[:head] + (whole[-tail:] if tail else b"")
        assert output.head_bytes == head
        assert output.truncated
