"""Reads from the bytecode of a code object what its statements may bind and change.

Every program that is debugged is read before its first line, so this looks at the raw bytes: `dis` makes an
object of each instruction, at twenty times the time. A test compares the two.
"""

import dis
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

_CHANGING = frozenset(
    {
        "STORE_SUBSCR",
        "DELETE_SUBSCR",
        "STORE_SLICE",
        "STORE_ATTR",
        "DELETE_ATTR",
        "YIELD_VALUE",
        "IMPORT_STAR",
    }
)
_CALLING = ("CALL", "SEND", "BEFORE_WITH", "BEFORE_ASYNC_WITH", "WITH_EXCEPT_START", "FOR_ITER")
_BINDING = ("STORE_FAST", "STORE_NAME", "STORE_DEREF", "STORE_GLOBAL", "DELETE_", "LOAD_FAST_AND_CLEAR")
_GLOBAL_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_GLOBAL_STORES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_MODULE_STORES = frozenset({"STORE_NAME", "DELETE_NAME"})
_NAMELESS = frozenset({"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "DELETE_ATTR"})
"""Their names are those of attributes."""
_IN_PLACE = range(13, 26)
"""Arguments of BINARY_OP from NB_INPLACE_ADD to NB_INPLACE_XOR, Include/opcode.h."""
_BINARY_OP = dis.opmap["BINARY_OP"]
_CACHE = dis.opmap["CACHE"]
"""Room for the interpreter's own use after an instruction."""
_INTRINSIC = dis.opmap.get("CALL_INTRINSIC_1")
_INTRINSIC_IMPORT_STAR = 2
"""Include/internal/pycore_intrinsics.h, from 3.12 on; before it is an instruction of its own."""
_IMPORT_STAR = dis.opmap.get("IMPORT_STAR")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operation:
    """What one kind of instruction means here."""

    names: Callable[[types.CodeType, int], tuple[str, ...]] | None
    """Finds the variables that one with this argument is about; None when it is about none."""
    binds: bool
    reads: bool
    reads_global: bool
    stores_global: bool
    stores_name: bool
    """Of a module these are its variables."""
    changes: bool
    calls: bool


def _named(code: types.CodeType, argument: int) -> tuple[str, ...]:
    return (code.co_names[argument],)


def _named_global(code: types.CodeType, argument: int) -> tuple[str, ...]:
    return (code.co_names[argument >> 1],)


def _local(code: types.CodeType, argument: int) -> tuple[str, ...]:
    return (code._varname_from_oparg(argument),)  # type: ignore[attr-defined]


def _two_locals(code: types.CodeType, argument: int) -> tuple[str, ...]:
    return (*_local(code, argument >> 4), *_local(code, argument & 15))


def _reader_of_names(name: str, number: int) -> Callable[[types.CodeType, int], tuple[str, ...]] | None:
    if name in _NAMELESS:
        return None
    if name == "LOAD_GLOBAL":
        return _named_global
    if name.count("_FAST") + name.startswith("FAST") == 2 and not name.endswith("AND_CLEAR"):
        return _two_locals
    if number in dis.hasname:
        return _named
    return _local if number in dis.haslocal or number in dis.hasfree else None


def _operations() -> dict[int, _Operation]:
    """Those that say anything, by opcode."""
    found = {}
    for name, number in dis.opmap.items():
        reads = name.startswith("LOAD_") or "LOAD_FAST" in name
        operation = _Operation(
            names=_reader_of_names(name, number),
            binds=name.startswith(_BINDING),
            reads=reads,
            reads_global=name in _GLOBAL_READS,
            stores_global=name in _GLOBAL_STORES,
            stores_name=name in _MODULE_STORES,
            changes=name in _CHANGING,
            calls=name.startswith(_CALLING),
        )
        tells = reads or operation.binds
        if operation.changes or operation.calls or (tells and operation.names is not None):
            found[number] = operation
    return found


_OPERATIONS = _operations()


@dataclass(slots=True, kw_only=True)
class Effects:
    """What the statements of one code object may do, each by its first line."""

    read: dict[int, set[str]] = field(default_factory=dict)
    """Variables that a statement reads; has every statement of the code."""
    bound: dict[int, list[str]] = field(default_factory=dict)
    bound_anywhere: list[str] = field(default_factory=list)
    """By instructions that belong to no line."""
    changing: set[int] = field(default_factory=set)
    """Statements that may change an object in place."""
    calling: set[int] = field(default_factory=set)
    stored_globals: list[str] = field(default_factory=list)
    used_globals: set[str] = field(default_factory=set)
    imports_star: bool = False


def read_effects(code: types.CodeType, statement_of: Sequence[int], *, is_module: bool) -> Effects:
    """Reads `code` once; `statement_of` has the statement of each line."""
    effects = Effects()
    for number, argument, line in _instructions(code):
        if line is not None:
            effects.read.setdefault(statement_of[line], set())
        if number == _IMPORT_STAR or (number == _INTRINSIC and argument == _INTRINSIC_IMPORT_STAR):
            effects.imports_star = True
        operation = _OPERATIONS.get(number)
        if operation is not None:
            _add(effects, operation, code, argument, None if line is None else statement_of[line], is_module)
        elif number == _BINARY_OP and argument in _IN_PLACE and line is not None:
            effects.changing.add(statement_of[line])
    return effects


def _add(
    effects: Effects,
    operation: _Operation,
    code: types.CodeType,
    argument: int,
    statement: int | None,
    is_module: bool,  # noqa: FBT001
) -> None:
    names = operation.names(code, argument) if operation.names is not None else ()
    if operation.binds:
        bound = effects.bound_anywhere if statement is None else effects.bound.setdefault(statement, [])
        bound += names
    if statement is None:
        return
    if operation.reads:
        effects.read[statement].update(names)
        if operation.reads_global:
            effects.used_globals.update(names)
    elif operation.stores_global or (is_module and operation.stores_name):
        effects.stored_globals += names
    if operation.changes or operation.calls:
        effects.changing.add(statement)
    if operation.calls:
        effects.calling.add(statement)


def _instructions(code: types.CodeType) -> Iterator[tuple[int, int, int | None]]:
    """Opcode, argument and line of each instruction."""
    raw = code.co_code
    argument = 0
    for number, low, positions in zip(raw[::2], raw[1::2], code.co_positions(), strict=True):
        if number == _CACHE:
            continue
        argument |= low
        if number == dis.EXTENDED_ARG:
            argument <<= 8
            continue
        yield number, argument, positions[0]
        argument = 0
