"""Random sequences of everything that can happen to sessions, against a model in plain Python.

A few hundred steps by default; SANDBOXD_SEQUENCES=2000 runs as many sequences as a release is given.
"""

import os
import random
from dataclasses import dataclass, field

import grpc
import pytest

from tests.support.serving import Serving
from tests.support.sessions import CRASHES, Sandbox, sandbox

_SEQUENCES = int(os.environ.get("SANDBOXD_SEQUENCES", "12"))
_SEQUENCES_A_TEST = 20
_STEPS = 14
_MOST_BRANCHES = 4
_READ = "[data, open('f').read(), round(rng.random(), 9), round(random.random(), 9)]"
_BEGIN = "import random\nrng = random.Random(1); random.seed(2)\ndata = {}\nopen('f', 'w').write('')"
_CHANGE = "data['{key}'] = {value}; open('f', 'a').write('{key}')\nrng.random(); random.random()"
_OUT_OF_MEMORY = "blocks = []\nwhile True: blocks.append(bytearray(8 << 20))"
_IGNORE_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


@dataclass
class _State:
    """What a session holds, as the model sees it."""

    data: dict[str, int] = field(default_factory=dict)
    text: str = ""
    draws: int = 0

    def changed(self, key: str, value: int) -> "_State":
        return _State({**self.data, key: value}, self.text + key, self.draws + 1)

    def drawn(self) -> "_State":
        return _State(self.data, self.text, self.draws + 1)

    def shown(self) -> list[object]:
        own, shared = random.Random(1), random.Random(2)
        for _ in range(self.draws):
            own.random()
            shared.random()
        return [self.data, self.text, round(own.random(), 9), round(shared.random(), 9)]


class _Model:
    """One sandbox and what it should be."""

    def __init__(self, one: Sandbox, state: _State, number: int) -> None:
        self.one = one
        self.state = state
        self.number = number
        self.before: dict[int, _State] = {}

    def ran(self, state: _State) -> None:
        self.number += 1
        self.before[self.number] = self.state
        self.state = state

    def check(self) -> None:
        assert self.one.value(_READ, prepare="import random") == self.state.shown()
        self.ran(self.state.drawn())


class _Sequence:
    """One sequence of random steps."""

    def __init__(self, seed: int, first: Sandbox) -> None:
        self.random = random.Random(seed)
        self.models = [_Model(first, _State(), 0)]
        first.run(_BEGIN)
        self.models[0].ran(_State())
        self.log: list[str] = [f"seed {seed}"]

    def step(self) -> None:
        model = self.random.choice(self.models)
        steps = [
            self.good, self.good, self.failing, self.rolled_back, self.crash, self.timeout,
            self.out_of_memory, self.branch, self.rewind, self.check, self.delete,
        ]  # fmt: skip
        chosen = self.random.choice(steps)
        self.log.append(f"{chosen.__name__} in {self.models.index(model)}")
        chosen(model)

    def change(self) -> tuple[str, str, int]:
        key, value = self.random.choice("abcdef"), self.random.randrange(1000)
        return _CHANGE.format(key=key, value=value), key, value

    def good(self, model: _Model) -> None:
        code, key, value = self.change()
        assert model.one.run(code).session == "KEPT"
        model.ran(model.state.changed(key, value))

    def failing(self, model: _Model) -> None:
        code, key, value = self.change()
        answer = model.one.run(code + "\n1 / 0")
        assert (answer.failure, answer.session) == ("EXCEPTION", "KEPT")
        model.ran(model.state.changed(key, value))

    def rolled_back(self, model: _Model) -> None:
        code, *_ = self.change()
        assert model.one.run(code + "\n1 / 0", rollback=True).session == "RESTORED"
        model.ran(model.state)

    def crash(self, model: _Model) -> None:
        code, *_ = self.change()
        how = CRASHES[self.random.choice(["segfault", "exit", "abort", "forbidden call"])]
        assert model.one.run(f"{code}\n{how}").session == "RESTORED"
        model.ran(model.state)

    def timeout(self, model: _Model) -> None:
        code, *_ = self.change()
        answer = model.one.run(f"{_IGNORE_SIGINT}\n{code}\nwhile True: pass", seconds=0.1)
        # On a busy machine the interrupt may come before it is ignored, and then nothing was changed.
        assert answer.state == "TIMED_OUT"
        assert answer.session in ("RESTORED", "KEPT")
        model.ran(model.state)

    def out_of_memory(self, model: _Model) -> None:
        code, key, value = self.change()
        answer = model.one.run(f"{code}\n{_OUT_OF_MEMORY}", seconds=20)
        assert answer.failure == "OUT_OF_MEMORY", answer.describe()
        kept = answer.session == "KEPT"
        model.ran(model.state.changed(key, value) if kept else model.state)
        if kept:
            assert model.one.run("del blocks").session == "KEPT"
            model.ran(model.state)

    def branch(self, model: _Model) -> None:
        if len(self.models) >= _MOST_BRANCHES:
            return
        (made,) = model.one.branches()
        self.models.append(_Model(made, model.state, 0))

    def rewind(self, model: _Model) -> None:
        kept = {entry.after_execution_number for entry in model.one.checkpoints()}
        targets = [number for number in model.before if number > 1 and number - 1 in kept]
        if not targets:
            return
        number = self.random.choice(targets)
        try:
            model.one.rewind(before_execution_number=number)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
        else:
            model.state = model.before[number]

    def check(self, model: _Model) -> None:
        model.check()

    def delete(self, model: _Model) -> None:
        if len(self.models) > 1:
            model.one.delete()
            self.models.remove(model)


@pytest.mark.slow
@pytest.mark.timeout(120 + 30 * _SEQUENCES_A_TEST)
@pytest.mark.parametrize("first", range(0, _SEQUENCES, _SEQUENCES_A_TEST))
def test_sessions_equal_the_model(leak_free: Serving, first: int) -> None:
    base = int(os.environ.get("SANDBOXD_SEED", random.randrange(10**6))) + first
    for seed in range(base, base + min(_SEQUENCES_A_TEST, _SEQUENCES - first)):
        with sandbox(leak_free, memory_bytes=None) as one:
            sequence = _Sequence(seed, one)
            try:
                for _ in range(_STEPS):
                    sequence.step()
                for model in sequence.models:
                    model.check()
            except AssertionError as error:
                raise AssertionError(f"{error}\n{sequence.log}") from error
            finally:
                for model in sequence.models:
                    if model.one is not one:
                        model.one.delete()
