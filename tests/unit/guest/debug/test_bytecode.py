"""Bytecode read as raw bytes, against the standard library's disassembler."""

import argparse
import ast
import asyncio.base_events
import contextlib
import dataclasses
import dis
import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from sandboxd.guest.debug import bytecode
from sandboxd.guest.debug.bytecode import Effects, read_effects

_MODULES = [argparse, ast, asyncio.base_events, contextlib, dataclasses, inspect, typing]
_ODD = """\
from math import *
total = 0
total += 1
items = [0]
items[0] += 1
del items[0]
class Point:
    x: int = 1
    def move(self, by, /, *more, **names):
        nonlocal_total = [y := each for each in more]
        self.x += by
        del self.x
        return lambda: (nonlocal_total, by, y)
def outer():
    a, b = c, d = 1, 2
    def inner():
        nonlocal a, d
        global total
        a = b
        total = c
        del d
        yield from (a for a in total)
    try:
        with open(a) as b, c:
            pass
    except OSError as error:
        del a
    match b:
        case [first, *rest]:
            return first
    return inner
"""


def _all_code(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all_code(constant)


def _expected(code: types.CodeType, statement_of: range, *, is_module: bool) -> Effects:
    """The same told by `dis`."""
    effects = Effects()
    for each in dis.get_instructions(code):
        line = each.positions.lineno if each.positions else None
        names = _names_in(each)
        if each.opname.startswith(bytecode._BINDING):
            where = (
                effects.bound_anywhere if line is None else effects.bound.setdefault(statement_of[line], [])
            )
            where += names
        if "IMPORT_STAR" in (each.opname, each.argrepr.removeprefix("INTRINSIC_")) or (
            each.opname == "CALL_INTRINSIC_1" and each.arg == 2
        ):
            effects.imports_star = True
        if line is None:
            continue
        key = statement_of[line]
        seen = effects.read.setdefault(key, set())
        if each.opname.startswith("LOAD_") or "LOAD_FAST" in each.opname:
            seen.update(names)
            if each.opname in bytecode._GLOBAL_READS:
                effects.used_globals.update(names)
        elif each.opname in bytecode._GLOBAL_STORES or (is_module and each.opname in bytecode._MODULE_STORES):
            effects.stored_globals += names
        in_place = each.opname == "BINARY_OP" and each.argrepr.endswith("=")
        calls = each.opname.startswith(bytecode._CALLING)
        if each.opname in bytecode._CHANGING or in_place or calls:
            effects.changing.add(key)
        if calls:
            effects.calling.add(key)
    return effects


def _names_in(instruction: dis.Instruction) -> tuple[str, ...]:
    argument: Any = instruction.argval
    if instruction.opname in bytecode._NAMELESS or instruction.opname == "LOAD_CONST":
        return ()
    found = argument if isinstance(argument, tuple) else (argument,)
    return tuple(name for name in found if isinstance(name, str))


def _programs() -> Iterator[Any]:
    for module in _MODULES:
        yield pytest.param(inspect.getsource(module), id=module.__name__)
    yield pytest.param(_ODD, id="odd")
    yield pytest.param("\n".join(f"name_{n} = name_{n - 1}" for n in range(1, 700)), id="extended arguments")


@pytest.mark.parametrize("source", list(_programs()))
def test_code_read_as_raw_bytes_tells_what_the_disassembler_does(source: str) -> None:
    for code in _all_code(compile(source, "<program>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)):
        lines = range(source.count("\n") + 3)
        for is_module in (True, False):
            found = read_effects(code, lines, is_module=is_module)
            assert found == _expected(code, lines, is_module=is_module)


def test_a_star_import_is_told() -> None:
    code = compile("from math import *", "<program>", "exec")

    assert read_effects(code, range(3), is_module=True).imports_star
