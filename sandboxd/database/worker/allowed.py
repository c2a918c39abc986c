"""What the guard lets through: kinds of nodes, functions and the words that may stand before a bracket."""

from collections.abc import Iterable
from typing import NamedTuple

from sqlglot import exp


def words(text: str) -> frozenset[str]:
    """A set of words from a text that is easy to read and sort."""
    return frozenset(text.split())


def _nodes(names: str) -> frozenset[type[exp.Expr]]:
    return frozenset(getattr(exp, name) for name in names.split())


NODES = _nodes(
    """
    Select Values Union Intersect Except Subquery With CTE From Join Lateral Table TableAlias Where
    Group Having Order Ordered Limit LimitOptions Offset Fetch Distinct Window WindowSpec Rollup Cube
    GroupingSets TableSample RecursiveWithSearch Alias Aliases Column Star Identifier Literal Null
    Boolean Paren Tuple Dot Bracket Slice Var DataType DataTypeParam ColumnDef Interval IntervalSpan
    Placeholder Parameter HexString BitString ByteString RawString National Between In Is Like ILike
    SimilarTo Glob Match Escape Any All Not Neg BitwiseNot Add Sub Mul Div IntDiv Mod DPipe EQ NEQ GT
    GTE LT LTE NullSafeEQ NullSafeNEQ BitwiseAnd BitwiseOr BitwiseXor BitwiseLeftShift BitwiseRightShift
    Distance Overlaps Adjacent ExtendsLeft ExtendsRight AtTimeZone Filter WithinGroup IgnoreNulls
    RespectNulls Kwarg PropertyEQ Variadic Pseudocolumn JSONPath JSONPathRoot JSONPathKey
    JSONPathSubscript JSONPathWildcard JSONPathSlice JSONPathRecursive JSONPathUnion JSONPathSelector
    JSONPathFilter JSONPathPart JSONKeyValue FormatJson OnCondition JSON Insert Update Delete Schema
    Returning OnConflict
    """
)
"""Classes a statement may be made of beside functions; any other is refused by name."""

DENIED_FUNCTION_NODES = _nodes(
    """
    CurrentUser SessionUser CurrentRole CurrentCatalog CurrentSchema CurrentDatabase CurrentVersion
    """
)
"""Functions written without brackets that tell who the server is to the database."""

PLAIN_NODES = (
    NODES.union(exp.FUNCTION_BY_NAME.values())
    - DENIED_FUNCTION_NODES
    - _nodes("Table DataType In Insert Update Delete")
)
"""Classes that are allowed whatever they hold; the guard looks into the others."""

DENIED_TYPES = words(
    """
    regclass regproc regprocedure regoper regoperator regtype regrole regnamespace regconfig regdictionary
    regcollation
    """
)
"""Types whose casts look names up in the catalogue."""

DENIED_WORDS = words(
    """
    current_user session_user system_user user current_role current_catalog current_schema
    """
)
"""PostgreSQL words that are functions without brackets."""

WORDS_BEFORE_BRACKET = words(
    """
    in values and or not as over filter exists any all some on using by from join where having select
    distinct union except intersect case when then else group limit offset returning set into rollup
    cube sets like ilike between is lateral with explain to escape symmetric do conflict window
    partition nulls collate interval rows materialized recursive nothing end similar at placing for
    fetch only first next array row cast coalesce nullif greatest least extract grouping position
    substring overlay trim normalize current_time current_timestamp localtime localtimestamp
    current_date unnest xmlelement glob match regexp system bernoulli repeatable integer int bigint
    smallint real float double precision decimal numeric varchar char character varying text bit boolean
    date time timestamp timestamptz json jsonb uuid bytea blob bool table
    """
)
"""Grammar, not functions: they may stand before an opening bracket wherever the parser lets them."""

_POSTGRES_DENIED_PREFIXES = (
    "pg_", "lo_", "txid_", "inet_client", "inet_server", "has_", "binary_upgrade", "brin_", "gin_", "ts_stat",
    "dblink", "postgres_fdw", "database_to_", "schema_to_", "table_to_", "query_to_", "cursor_to_", "currtid",
    "to_reg", "row_security", "shobj_", "col_description", "obj_description", "amvalidate", "suppress_",
    "aclexplode", "aclitem", "acldefault", "makeaclitem", "ri_fkey", "xid8", "loread", "lowrite", "fmgr_",
)  # fmt: skip
_POSTGRES_DENIED = words(
    """
    set_config current_setting nextval setval currval lastval query_to_xml version current_user
    session_user current_database current_schema current_schemas current_query format_type
    getdatabaseencoding ts_rewrite ts_debug ts_parse ts_token_type mxid_age age_xid pg_sleep dblink
    """
)
_POSTGRES_VOLATILE = words(
    """
    random clock_timestamp timeofday gen_random_uuid statement_timestamp
    """
)
"""Volatile by declaration, harmless in fact."""


class CatalogFunction(NamedTuple):
    """A function name of a PostgreSQL server over all its overloads."""

    name: str
    builtin: bool
    """Whether every overload is PostgreSQL's own."""
    volatile: bool
    """Whether any overload may change something."""


class FunctionPolicy(NamedTuple):
    """Names that may be called, and names that exist but may not."""

    allowed: frozenset[str]
    denied: frozenset[str]


def postgres_functions(catalog: Iterable[CatalogFunction], extra: Iterable[str] = ()) -> FunctionPolicy:
    """Every function of PostgreSQL's own that only computes, and what the settings add."""
    granted = frozenset(extra)
    allowed, denied = set(granted), set(_POSTGRES_DENIED)
    for function in catalog:
        name = function.name
        harmless = function.builtin and (not function.volatile or name in _POSTGRES_VOLATILE)
        if name in granted or (
            harmless and name not in _POSTGRES_DENIED and not name.startswith(_POSTGRES_DENIED_PREFIXES)
        ):
            allowed.add(name)
        else:
            denied.add(name)
    return FunctionPolicy(frozenset(allowed), frozenset(denied - granted))


_SQLITE_ALLOWED = words(
    """
    abs changes char coalesce concat concat_ws format glob hex ifnull iif instr length like likelihood
    likely lower ltrim max min nullif octet_length printf quote random randomblob replace round rtrim
    sign soundex substr substring trim typeof unhex unicode unlikely upper zeroblob avg count
    group_concat string_agg sum total median percentile date time datetime julianday unixepoch strftime
    timediff row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value
    nth_value json json_array json_array_length json_error_position json_extract json_insert json_object
    json_patch json_remove json_replace json_set json_type json_valid json_quote json_group_array
    json_group_object json_each json_tree jsonb acos acosh asin asinh atan atan2 atanh ceil ceiling cos
    cosh degrees exp floor ln log log10 log2 mod pi pow power radians sin sinh sqrt tan tanh trunc ->
    ->> match current_date current_time current_timestamp
    """
)
_SQLITE_DENIED = words(
    """
    load_extension fts3_tokenizer readfile writefile edit sqlite_compileoption_get
    sqlite_compileoption_used sqlite_source_id sqlite_log sqlite_offset sqlite_dbpage dbstat fsdir lsdir
    sqlite_stmt bytecode sqlar_compress sqlar_uncompress zipfile completion generate_series
    total_changes last_insert_rowid sqlite_version sqlite_rename_table sqlite_rename_column
    sqlite_rename_test sqlite_drop_column sqlite_fail
    """
)


def sqlite_functions(registered: Iterable[str], extra: Iterable[str] = ()) -> FunctionPolicy:
    """SQLite's own functions that only compute, those the bridge registers, and what the settings add."""
    allowed = _SQLITE_ALLOWED.union(registered, extra)
    return FunctionPolicy(allowed, _SQLITE_DENIED - allowed)
