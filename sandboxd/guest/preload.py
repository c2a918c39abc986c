"""What the zygote loads before it forks guests: everything user code and the guest itself may import.

A guest starts with whatever was imported and exercised here, shared with all others; an import or a first
use left to the guest costs it time and private memory.
"""

import importlib
import linecache
import os
import platform
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from typing import TypeVar

from sandboxd.channel.messages import Run
from sandboxd.guest import hot_pages
from sandboxd.guest.network import explain_network_off
from sandboxd.guest.rows import let_json_take_rows
from sandboxd.guest.runner import Runner
from sandboxd.guest.session import Session
from sandboxd.policy import ALLOWED_MODULES

_T = TypeVar("_T")

_LAZILY_IMPORTED = (
    "asyncio.selector_events", "concurrent.futures.thread", "encodings.idna", "encodings.latin_1",
    "encodings.utf_16", "encodings.ascii", "fcntl", "numpy.linalg", "numpy.ma", "numpy.random", "pydoc",
    "pandas.core.computation.eval", "pandas.io.formats.format",
    "pandas.io.json", "stringprep", "traceback", "zoneinfo._tzpath", "_strptime",
)  # fmt: skip
"""Beside the allowed modules: what they, the guest or the interpreter import at first use."""

_WORKLOAD = """
import asyncio, collections, dataclasses, io, json, math, re, statistics
import numpy as np
import pandas as pd

@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5

left = pd.DataFrame({"key": ["a", "b", "a", "c"], "n": [1, 2, 3, 4], "f": [0.5, None, 1.5, 2.0]})
right = pd.read_csv(io.StringIO("key,label\\na,first\\nb,second\\n"))
merged = left.merge(right, on="key", how="left").sort_values("n").fillna({"f": 0.0})
grouped = merged.groupby("key").agg({"n": "sum", "f": "mean"}).reset_index()
moments = pd.to_datetime(pd.Series(["2024-01-01", "2024-02-01"]))
text = merged.to_csv(index=False) + json.dumps(left.to_dict("records")) + repr(grouped)
matrix = np.linalg.inv(np.eye(3) * 2) @ np.arange(3.0)
words = collections.Counter(re.findall(r"\\w+", "a b a")).most_common(1)
debug(f"{len(text)} characters", "DEBUG")
inspect_var("point", Point(1))
await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0.001))
get_debug_info()
{"grouped": grouped, "moments": moments, "matrix": matrix, "words": words, "mean": statistics.mean([1, 2]),
 "now": datetime.now().isoformat(), "root": math.sqrt(2), "point": Point(2)}
"""
_REHEARSAL = "print(end='')\n{'a': [1, 2.5, 'b'], 'c': None}"
_REHEARSAL_LABEL = "<rehearsal>"
_FAILING = "def fail(number):\n    return json.loads('[') if number else 0\nfail(1)\n"


def warm_up() -> dict[str, str]:
    """Imports and exercises; returns the versions of Python and of the packages, by name. Leaves no
    thread, no event loop and no open file."""
    for name in (*ALLOWED_MODULES, *_LAZILY_IMPORTED):
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # not every Python has all of them
    explain_network_off()
    let_json_take_rows()
    # The programs this is made for use it; a warning on stderr at each of them would help nobody.
    warnings.filterwarnings("ignore", r"datetime\.datetime\.utc", DeprecationWarning)
    _exercise()
    if threading.active_count() != 1:
        raise RuntimeError("the preloaded process must have one thread")
    versions = {
        name: str(sys.modules[name].__version__) for name in ("numpy", "pandas", "requests", "aiohttp")
    }
    return {"python": platform.python_version(), **versions}


def prepare_runner(*, proc: int) -> Runner:
    """A session that has run nothing of anybody's, with its parts in place: a guest is a fork of it and
    connects it to its own channel. `proc` is a descriptor of a /proc."""
    runner = _discarding_output(_fresh_runner)
    runner.session.hot_pages = _discarding_output(
        lambda _: hot_pages.find(lambda: rehearse(runner), proc=proc)
    )
    return runner


def _fresh_runner(channel: socket.socket) -> Runner:
    session = Session(channel)
    session.become_main()
    runner = Runner(session)
    # A look-up that displaces another one from the interpreter's cache writes to the names of both.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it has a new name in 3.13
        sys._clear_type_cache()
    rehearse(runner)
    return runner


def rehearse(runner: Runner) -> None:
    """Runs a small program for nobody: the pages that every run writes to are copied now, while the guest
    waits in the pool, and not when the first execution waits for them."""
    runner.run(Run(run_id=0, source=_REHEARSAL, label=_REHEARSAL_LABEL))
    linecache.cache.pop(_REHEARSAL_LABEL, None)


def _discarding_output(action: Callable[[socket.socket], _T]) -> _T:
    """Calls `action` with a channel that leads nowhere while standard output and error lead nowhere."""
    ours, theirs = socket.socketpair()
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        return action(ours)
    finally:
        for target, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, target)
            os.close(copy)
        os.close(nowhere)
        ours.close()
        theirs.close()


def _exercise() -> None:
    """Runs programs through a session of its own, its output thrown away, its traces removed."""
    main_module = sys.modules["__main__"]
    streams = sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__
    try:
        _discarding_output(lambda channel: _run_workload(Session(channel)))
    finally:
        sys.modules["__main__"] = main_module
        sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]


def _run_workload(session: Session) -> None:
    runner = Runner(session)
    finished = runner.run(Run(run_id=1, source=_WORKLOAD, label="<warm-up>", capture_frames=True))
    if finished.failure is not None:
        raise RuntimeError(f"the warm-up failed: {finished.failure.message}\n{finished.failure.traceback}")
    runner.run(Run(run_id=2, source=_FAILING, label="<warm-up>", capture_frames=True))
