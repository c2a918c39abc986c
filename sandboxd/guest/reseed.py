"""Randomness of a forked guest: none of the zygote's states may be shared by two guests."""

import os
import random
import ssl
import tempfile
import uuid

import numpy as np

_SEED_BYTES = 64


def reseed() -> None:
    """Gives every generator of this process fresh entropy from the kernel.

    `secrets`, `uuid.uuid4` and `numpy.random.default_rng()` ask the kernel at each use and need nothing.
    """
    random.seed(os.urandom(_SEED_BYTES))
    np.random.seed(np.frombuffer(os.urandom(_SEED_BYTES), dtype=np.uint32))
    ssl.RAND_add(os.urandom(_SEED_BYTES), float(_SEED_BYTES))
    tempfile._name_sequence = None  # type: ignore[attr-defined]
    uuid._node = None  # type: ignore[attr-defined]
    uuid._last_timestamp = None  # type: ignore[attr-defined]
