"""Guests for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.unit.guest.nursery import UNRESTRICTED, Guest, Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def guest(nursery: Nursery) -> Iterator[Guest]:
    guest = nursery.spawn().configure()
    yield guest
    guest.close()


@pytest.fixture
def free_guest(nursery: Nursery) -> Iterator[Guest]:
    """Without language rules."""
    guest = nursery.spawn().configure(UNRESTRICTED)
    yield guest
    guest.close()
