"""Pages of a list: a token names the last item of the page before, and nothing else."""

import base64
import binascii
from collections.abc import Callable, Iterable
from itertools import dropwhile, islice
from typing import TypeVar

from sandboxd.errors import InvalidArgument

Item = TypeVar("Item")


def page(
    items: Iterable[Item], *, size: int, token: str, key: Callable[[Item], str]
) -> tuple[list[Item], str]:
    """The page after the item that `token` names, and the token of the next; empty when it is the last."""
    rest = iter(items)
    if token:
        last = _decode(token)
        rest = dropwhile(lambda item: key(item) != last, rest)
        if next(rest, None) is None:
            raise InvalidArgument(field="page_token", problem="is not of this list; start again without it")
    found = list(islice(rest, size + 1))
    if len(found) <= size:
        return found, ""
    return found[:size], base64.urlsafe_b64encode(key(found[size - 1]).encode()).decode()


def _decode(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, ValueError):
        raise InvalidArgument(field="page_token", problem="is not a page token of this server") from None
