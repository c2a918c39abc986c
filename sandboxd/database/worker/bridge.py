"""Carries a named list of PostgreSQL constructs over to SQLite; refuses the others by name.

A statement is bridged only when its tokens show such a construct; any other goes to SQLite as it was
written. The guard judges what comes out of here, never what went in.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from sqlglot import exp
from sqlglot.errors import SqlglotError

from sandboxd.database.worker.allowed import words
from sandboxd.database.worker.bridge_rules import rewrite, unsupported
from sandboxd.database.worker.lexer import LexedText, Token, TokenKind
from sandboxd.database.worker.parser import parse

_ALWAYS = words("array interval extract ilike lateral fetch rollup cube grouping similar tablesample overlay")
_BEFORE_BRACKET = words("any all some left right substring position trim")
_BEFORE_STRING = words("date timestamp timestamptz time")
_CAST_TYPES = words("date timestamp timestamptz boolean bool json jsonb uuid")
"""Types that SQLite's CAST takes for numbers. Its CAST AS INTEGER cuts, and is left alone."""
_MOMENTS = words("now current_date current_timestamp localtimestamp date_trunc")
_OPERATORS = frozenset(("~", "~*", "!~", "!~*", "@>", "<@", "#>", "#>>", "&&", "~~", "~~*"))
_TELLING = frozenset(
    ("::", "distinct", "at", "as", *_OPERATORS, *_ALWAYS, *_BEFORE_BRACKET, *_BEFORE_STRING, *_MOMENTS)
)
"""Tokens that begin a construct of the list, perhaps."""
UNSUPPORTED_FUNCTIONS = words(
    """
    to_char to_date to_timestamp to_number age make_date make_time make_timestamp make_interval
    justify_days justify_hours justify_interval generate_series unnest array_agg array_length
    array_to_string string_to_array array_append array_cat array_position cardinality percentile_cont
    percentile_disc mode regexp_matches regexp_match regexp_split_to_array regexp_split_to_table
    regexp_count jsonb_array_elements json_array_elements jsonb_array_elements_text
    json_array_elements_text jsonb_each json_object_keys jsonb_object_keys jsonb_build_object
    json_build_object json_build_array jsonb_agg json_agg jsonb_object_agg json_object_agg row_to_json
    to_json to_jsonb jsonb_set jsonb_path_query json_extract_path json_extract_path_text width_bucket
    corr covar_pop covar_samp regr_slope regr_intercept stddev_pop var_pop clock_timestamp timezone
    date_bin isfinite to_tsvector to_tsquery plainto_tsquery ts_rank similarity gen_random_uuid
    quote_ident quote_literal translate overlay
    """
)
"""PostgreSQL functions that SQLite has not and that nothing here stands in for."""

_UNSUPPORTED: dict[type[exp.Expr], str] = {
    exp.Lateral: "LATERAL",
    exp.Array: "ARRAY",
    exp.Bracket: "array subscripts",
    exp.WithinGroup: "WITHIN GROUP",
    exp.Rollup: "ROLLUP",
    exp.Cube: "CUBE",
    exp.GroupingSets: "GROUPING SETS",
    exp.AtTimeZone: "AT TIME ZONE",
    exp.TableSample: "TABLESAMPLE",
    exp.SimilarTo: "SIMILAR TO",
    exp.Overlay: "overlay",
    exp.ArrayContainsAll: "@>",
    exp.ArrayContainedBy: "<@",
    exp.ArrayOverlaps: "&&",
    exp.JSONBContains: "? (jsonb)",
    exp.JSONBExtract: "#>",
    exp.JSONBExtractScalar: "#>>",
    exp.Overlaps: "OVERLAPS",
    exp.Lock: "FOR UPDATE",
    exp.Into: "SELECT INTO",
}


class Bridged(NamedTuple):
    """Text for SQLite, and what was carried over."""

    text: str
    constructs: list[str]


def bridge(text: str, lexed: LexedText) -> Bridged | None:
    """`text` for SQLite when it uses a construct of the list; None when it is to stay as it is."""
    _refuse_functions(lexed.tokens)
    if _TELLING.isdisjoint([token.name for token in lexed.tokens]) or not _is_called_for(lexed.tokens):
        return None
    constructs: dict[str, None] = {}
    try:
        (tree,) = parse(text, "postgres")
        if tree is None:
            return None
        _refuse_nodes(tree)
        changed = _named(tree).transform(lambda node: rewrite(node, constructs))
        written = changed.sql(dialect="sqlite")
    except (SqlglotError, RecursionError, TypeError, ValueError, AttributeError, LookupError):
        return None  # no statement of PostgreSQL's: SQLite's own parser has the word
    if not constructs:
        return None
    return Bridged(written, list(constructs))


def _named(tree: exp.Expr) -> exp.Expr:
    """The statement with the column names that PostgreSQL would give its expressions."""
    if not isinstance(tree, exp.Select):
        return tree
    for projection in list(tree.expressions):
        if not isinstance(projection, exp.Alias | exp.Column | exp.Star | exp.Dot):
            name = _column_name(projection)
            projection.replace(exp.alias_(projection.copy(), name, quoted=True))
    return tree


def _column_name(node: exp.Expr) -> str:
    while isinstance(node, exp.Paren | exp.Cast):
        inner = node.this
        if isinstance(node, exp.Cast) and not isinstance(inner, exp.Column | exp.Func | exp.Cast | exp.Paren):
            return _CAST_NAMES.get(node.args["to"].this, "?column?")
        node = inner
    if isinstance(node, exp.Column):
        return str(node.name)
    if isinstance(node, exp.Case):
        return "case"
    if isinstance(node, exp.Anonymous):
        return str(node.name).lower()
    if isinstance(node, exp.Window | exp.Filter | exp.WithinGroup):
        return _column_name(node.this)
    if isinstance(node, exp.Func) and not isinstance(node, exp.Binary | exp.Connector):
        return _FUNCTION_NAMES.get(type(node), node.sql_name().lower())
    return "?column?"


_FUNCTION_NAMES: dict[type[exp.Expr], str] = {
    exp.TimestampTrunc: "date_trunc",
    exp.CurrentTimestamp: "now",
    exp.StrPosition: "position",
    exp.GroupConcat: "string_agg",
    exp.LogicalAnd: "bool_and",
    exp.LogicalOr: "bool_or",
}
_CAST_NAMES = {
    exp.DType.DATE: "date",
    exp.DType.TIMESTAMP: "timestamp",
    exp.DType.TIMESTAMPTZ: "timestamptz",
    exp.DType.INT: "int4",
    exp.DType.BIGINT: "int8",
    exp.DType.TEXT: "text",
    exp.DType.BOOLEAN: "bool",
}


def _refuse_functions(tokens: list[Token]) -> None:
    for token, following in pairwise(tokens):
        if token.name in UNSUPPORTED_FUNCTIONS and following.name == "(" and token.kind == TokenKind.WORD:
            raise unsupported(token.name)


def _is_called_for(tokens: list[Token]) -> bool:
    has_sign = any(token.kind == TokenKind.OPERATOR and token.name in ("+", "-") for token in tokens)
    for index, token in enumerate(tokens):
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        if token.kind == TokenKind.CAST or (token.kind == TokenKind.OPERATOR and token.name in _OPERATORS):
            return True
        if token.kind != TokenKind.WORD or (index and tokens[index - 1].name == "."):
            continue
        if token.name in _ALWAYS or (has_sign and token.name in _MOMENTS):
            return True
        if following is None:
            continue
        if (following.name == "(" and token.name in _BEFORE_BRACKET) or (
            following.kind == TokenKind.STRING and token.name in _BEFORE_STRING
        ):
            return True
        if (token.name, following.name) in (("distinct", "on"), ("at", "time")):
            return True
        if token.name == "as" and following.name in _CAST_TYPES:
            return True
    return False


def _refuse_nodes(tree: exp.Expr) -> None:
    for node in tree.walk():
        name = _UNSUPPORTED.get(type(node))
        if name is not None and not (
            name == "ARRAY" and isinstance(node.parent, exp.Any | exp.All | exp.Paren)
        ):
            raise unsupported(name)
        if isinstance(node, exp.Distinct) and node.args.get("on") is not None:
            raise unsupported("DISTINCT ON")
        if (
            isinstance(node, exp.TableAlias)
            and node.args.get("columns")
            and not isinstance(node.parent, exp.CTE)
        ):
            raise unsupported("column names after AS in FROM")


def check_native(nodes: Sequence[exp.Expr], column_types: Mapping[str, str]) -> None:
    """Refuses arithmetic on columns of times: SQLite would take the year out of the text and say nothing."""
    for node in nodes:
        if not isinstance(node, exp.Add | exp.Sub):
            continue
        for side in (node.this, node.expression):
            if isinstance(side, exp.Column):
                declared = column_types.get(side.name.lower(), "").upper()
                if declared.startswith(("TIMESTAMP", "DATE")):
                    raise unsupported("arithmetic on a column of dates or times other than with an INTERVAL")
