"""Other tracers over the same programs, in this process: how many steps they see, in how many seconds."""

import bdb
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class _Steps(bdb.Bdb):
    """What each debugger built on bdb pays at least: a stop a line, with a copy of the variables."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def user_line(self, frame: Any) -> None:
        self.count += 1
        dict(frame.f_locals)
        self.set_step()


def _bdb(source: str) -> tuple[int, float]:
    tracer = _Steps()
    code = compile(source, "<program>", "exec")
    start = time.perf_counter()
    tracer.run(code, {})
    return tracer.count, time.perf_counter() - start


def _in_a_function(source: str, head: str) -> Callable[[], Any]:
    """The program as a function of a file: PySnooper and snoop trace functions and read their source."""
    body = "".join(f"    {line}\n" for line in source.splitlines())
    directory = tempfile.mkdtemp()
    path = Path(directory) / "program.py"
    path.write_text(f"{head}\ndef program():\n{body}")
    namespace: dict[str, Any] = {"__name__": "program", "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    program: Callable[[], Any] = namespace["program"]
    return program


def _pysnooper(source: str) -> tuple[int, float]:
    import pysnooper

    out = io.StringIO()
    traced = pysnooper.snoop(out, depth=40, color=False)(_in_a_function(source, ""))
    start = time.perf_counter()
    traced()
    elapsed = time.perf_counter() - start
    return sum(" line " in line for line in out.getvalue().splitlines()), elapsed


def _snoop(source: str) -> tuple[int, float]:
    import snoop

    out = io.StringIO()
    config = snoop.Config(out=out, color=False)
    traced = config.snoop(depth=40)(_in_a_function(source, ""))
    start = time.perf_counter()
    traced()
    elapsed = time.perf_counter() - start
    return sum(" | " in line for line in out.getvalue().splitlines()), elapsed


PEERS: dict[str, Callable[[str], tuple[int, float]]] = {"bdb": _bdb, "PySnooper": _pysnooper, "snoop": _snoop}
