"""Two guests come from one zygote; nothing that one draws tells what another will."""

from tests.support.control import unconfined
from tests.support.serving import Serving

_DRAW = (
    "import random, secrets, ssl, uuid, tempfile, os\nimport numpy as np\n"
    "print(random.random(), np.random.rand(), np.random.default_rng().random(), secrets.token_hex(8),\n"
    "      ssl.RAND_bytes(8).hex(), uuid.uuid4(), uuid.uuid1(), os.urandom(8).hex(),\n"
    "      next(tempfile._get_candidate_names()))"
)


def test_nothing_random_is_the_same_in_two_guests(server: Serving) -> None:
    draws = [server.output(_DRAW).split() for _ in range(3)]
    for column in zip(*draws, strict=True):
        assert len(set(column)) == len(draws), column


def test_forked_processes_draw_the_same_without_reseeding() -> None:
    code = (
        "import os, random, ctypes\n"
        "random.seed(1)\n"
        "state = random.getstate()\n"
        "random.setstate(state); a = random.random(); random.setstate(state); print(a == random.random())"
    )
    assert unconfined(code) == "True"
