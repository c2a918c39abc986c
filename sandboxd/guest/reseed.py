"""Randomness of a forked guest: none of the zygote's states may be shared by two guests."""

import ctypes
import os
import random
import tempfile
import uuid

import numpy as np

_SEED_BYTES = 64
_STATE_WORDS = 624
"""Of the Mersenne Twister: M. Matsumoto, T. Nishimura, ACM TOMACS 8 (1998)."""
_WORD_BYTES = 4

_seed_random = super(random.Random, random._inst).seed  # in C
np.random.seed()  # no half of a pair of normal deviates is left, nor a seed sequence
_numpy_state: int = np.random.mtrand._rand._bit_generator.ctypes.state_address
"""Where numpy keeps its global generator: struct s_mt19937_state, the words and then the position."""


def reseed() -> None:
    """Gives every generator of this process fresh entropy from the kernel.

    `secrets`, `uuid.uuid4` and `numpy.random.default_rng()` ask the kernel at each use and need nothing;
    OpenSSL sees by the process id that it was forked and seeds itself. Every page written here is one more
    that a guest has to itself, so the states are written and nothing is called that computes them.
    """
    _seed_random(int.from_bytes(os.urandom(_SEED_BYTES), "little"))
    words = os.urandom(_STATE_WORDS * _WORD_BYTES)
    ctypes.memmove(_numpy_state, words, len(words))
    ctypes.c_int.from_address(_numpy_state + len(words)).value = _STATE_WORDS  # all of them are used up
    tempfile._name_sequence = None  # type: ignore[attr-defined]
    uuid._node = None  # type: ignore[attr-defined]
    uuid._last_timestamp = None  # type: ignore[attr-defined]
