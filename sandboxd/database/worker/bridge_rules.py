"""How each carried construct of PostgreSQL is written in SQLite: a tree in, a tree out."""

import re
from collections.abc import Callable, Mapping

from sqlglot import exp

from sandboxd.database.worker.refusal import Layer, Reason, Refusal

_DATE_TYPES = {exp.DType.DATE}
_MOMENT_TYPES = {exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ, exp.DType.DATETIME}
_WHOLE_TYPES = {exp.DType.INT, exp.DType.BIGINT, exp.DType.SMALLINT}
_TEXT_TYPES = {exp.DType.TEXT, exp.DType.VARCHAR, exp.DType.CHAR}
_REAL_TYPES = {exp.DType.FLOAT, exp.DType.DOUBLE, exp.DType.DECIMAL}
_AS_THEY_ARE = {exp.DType.JSON, exp.DType.JSONB, exp.DType.UUID}


def unsupported(construct: str) -> Refusal:
    """A construct that is not on the list."""
    return Refusal(
        Reason.DIALECT,
        Layer.BRIDGE,
        f"{construct} is PostgreSQL's and is not carried over to this SQLite database",
        hint="write it in SQLite's own SQL, or compute it in Python from the rows",
        construct=construct,
    )


def rewrite(node: exp.Expr, constructs: dict[str, None]) -> exp.Expr:
    """`node`, or what stands in for it; its name goes into `constructs` then."""
    rule = _RULES.get(type(node))
    changed = rule(node) if rule is not None else None
    if changed is None:
        return node
    constructs[_NAMES[type(node)]] = None
    return changed


# --- the rules: each gives the node that stands in, or None to leave it as it is -----------------


def _call(name: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=list(arguments))


_UNIT_MICROS = {
    "microsecond": 1, "millisecond": 1000, "second": 1_000_000, "sec": 1_000_000, "minute": 60_000_000,
    "min": 60_000_000, "hour": 3_600_000_000,
}  # fmt: skip
_UNIT_DAYS = {"day": 1, "week": 7}
_UNIT_MONTHS = {"month": 1, "mon": 1, "quarter": 3, "year": 12, "decade": 120, "century": 1200}
_PART = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([a-z]+)")


def interval_parts(text: str) -> tuple[int, int, int]:
    """Months, days and microseconds of `1 year 2 days 03 hours`; refuses other forms."""
    lowered = text.lower().strip()
    months = days = 0
    micros = 0.0
    if not lowered or _PART.sub("", lowered).strip(" ,"):
        raise unsupported(f"INTERVAL '{text[:40]}'")
    for amount, unit in _PART.findall(lowered):
        name = unit.removesuffix("s") if unit not in ("centuries",) else "century"
        if name in _UNIT_MICROS:
            micros += float(amount) * _UNIT_MICROS[name]
        elif "." not in amount and name in _UNIT_DAYS:
            days += int(amount) * _UNIT_DAYS[name]
        elif "." not in amount and name in _UNIT_MONTHS:
            months += int(amount) * _UNIT_MONTHS[name]
        else:
            raise unsupported(f"INTERVAL '{text[:40]}'")
    return months, days, round(micros)


def _interval_of(node: exp.Expr) -> tuple[int, int, int]:
    amount = node.this
    if not isinstance(amount, exp.Literal):
        raise unsupported("INTERVAL of an expression")
    unit = node.args.get("unit")
    return interval_parts(f"{amount.this} {unit.this}" if unit is not None else str(amount.this))


def _is_date(node: exp.Expr) -> bool:
    while isinstance(node, exp.Paren):
        node = node.this
    return isinstance(node, exp.CurrentDate) or (
        isinstance(node, exp.Cast) and node.to.this in _DATE_TYPES
    ) or (isinstance(node, exp.Anonymous) and node.name in ("bridge_date", "bridge_add_days"))  # fmt: skip


def _is_moment(node: exp.Expr) -> bool:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.Anonymous):
        return node.name in ("now", "bridge_timestamp", "bridge_add_interval", "date_trunc")
    if isinstance(node, exp.Cast):
        return node.to.this in _MOMENT_TYPES
    return isinstance(node, exp.CurrentTimestamp | exp.Localtimestamp | exp.TimestampTrunc | exp.DateTrunc)


def _arithmetic(node: exp.Expr) -> exp.Expr | None:
    left, right = node.this, node.expression
    sign = -1 if isinstance(node, exp.Sub) else 1
    if isinstance(left, exp.Interval) and sign == 1:
        left, right = right, left
    if isinstance(right, exp.Interval):
        parts = (exp.Literal.number(sign * part) for part in _interval_of(right))
        return _call("bridge_add_interval", left.transform(_rewrite_silently), *parts)
    if _is_date(left) and _is_date(right) and sign == -1:
        days = [_call("julianday", side.transform(_rewrite_silently)) for side in (left, right)]
        return exp.cast(exp.Paren(this=exp.Sub(this=days[0], expression=days[1])), "INT")
    if _is_date(left) or _is_date(right):
        return _date_and_days(left, right, sign)
    if _is_moment(left) or _is_moment(right):
        raise unsupported("arithmetic of timestamps other than with an INTERVAL")
    return None


def _date_and_days(left: exp.Expr, right: exp.Expr, sign: int) -> exp.Expr:
    if not _is_date(left):
        left, right = right, left
    whole = isinstance(right, exp.Literal) and not right.is_string and "." not in str(right.this)
    if not (whole or isinstance(right, exp.Placeholder)) or (isinstance(right, exp.Neg)):
        raise unsupported("arithmetic of dates other than with whole days or an INTERVAL")
    days = right if sign == 1 else exp.Neg(this=right)
    return _call("bridge_add_days", left.transform(_rewrite_silently), days)


def _rewrite_silently(node: exp.Expr) -> exp.Expr:
    return rewrite(node, {})


def _cast(node: exp.Expr) -> exp.Expr | None:
    target = node.args["to"].this
    if target in _DATE_TYPES:
        return _call("bridge_date", node.this)
    if target in _MOMENT_TYPES:
        return _call("bridge_timestamp", node.this)
    if target in _WHOLE_TYPES:
        return _call("bridge_integer", node.this)
    if target is exp.DType.BOOLEAN:
        return _call("bridge_boolean", node.this)
    if target in _TEXT_TYPES and not node.args["to"].expressions:
        return exp.cast(node.this, "TEXT") if node.args["to"].this is not exp.DType.TEXT else None
    if target in _REAL_TYPES:
        return exp.cast(node.this, "REAL")
    if target in _AS_THEY_ARE:
        return exp.Paren(this=node.this)
    raise unsupported(f"cast to {node.args['to'].sql(dialect='postgres').lower()}")


def _extract(node: exp.Expr) -> exp.Expr:
    field = str(node.this.this if isinstance(node.this, exp.Var | exp.Literal) else node.this.name)
    return _call("date_part", exp.Literal.string(field.lower()), node.expression)


def _truncate(node: exp.Expr) -> exp.Expr:
    unit = node.args["unit"]
    if node.args.get("zone") is not None:
        raise unsupported("date_trunc with a time zone")
    return _call("date_trunc", exp.Literal.string(str(unit.this).lower()), node.this)


def _any_or_all(node: exp.Expr) -> exp.Expr | None:
    right = node.expression
    wanted = exp.Any if isinstance(node, exp.EQ) else exp.All
    if isinstance(right, exp.Anonymous) and right.name.upper() == "ALL" and len(right.expressions) == 1:
        right = exp.All(this=right.expressions[0])
    if not isinstance(right, exp.Any | exp.All):
        return None
    source = right.this
    while isinstance(source, exp.Paren):
        source = source.this
    if not isinstance(right, wanted):
        raise unsupported("this comparison with ANY or ALL")
    if isinstance(source, exp.Placeholder):
        values = exp.select("value").from_(exp.Table(this=_call("json_each", source)))
        inside = exp.In(this=node.this, query=exp.Subquery(this=values))
    elif isinstance(source, exp.Array):
        inside = exp.In(this=node.this, expressions=source.expressions)
    elif isinstance(source, exp.Query):
        inside = exp.In(this=node.this, query=exp.Subquery(this=source))
    else:
        raise unsupported("ANY of an expression")
    return inside if wanted is exp.Any else exp.Not(this=inside)


def _ilike(node: exp.Expr) -> exp.Expr:
    return exp.Like(this=exp.Lower(this=node.this), expression=exp.Lower(this=node.expression))


def _regexp(node: exp.Expr) -> exp.Expr:
    name = "bridge_iregexp" if isinstance(node, exp.RegexpILike) else "regexp"
    return _call(name, node.expression, node.this)


def _fetch(node: exp.Expr) -> exp.Expr:
    options = node.args.get("limit_options")
    if options is not None and (options.args.get("with_ties") or options.args.get("percent")):
        raise unsupported("FETCH WITH TIES")
    return exp.Limit(expression=node.args["count"])


def _now(_: exp.Expr) -> exp.Expr:
    return _call("now")


def _position(node: exp.Expr) -> exp.Expr:
    return _call("instr", node.this, node.args["substr"])


def _substring(node: exp.Expr) -> exp.Expr:
    parts = (node.this, node.args.get("start"), node.args.get("length"))
    return _call("bridge_substring", *(part for part in parts if part is not None))


def _trim(node: exp.Expr) -> exp.Expr:
    name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position")), "trim")
    return _call(name, *(part for part in (node.this, node.expression) if part))


def _left(node: exp.Expr) -> exp.Expr:
    return _call("bridge_left", node.this, node.expression)


def _right(node: exp.Expr) -> exp.Expr:
    return _call("bridge_right", node.this, node.expression)


_RULES: Mapping[type[exp.Expr], Callable[[exp.Expr], exp.Expr | None]] = {
    exp.Add: _arithmetic,
    exp.Sub: _arithmetic,
    exp.Cast: _cast,
    exp.Extract: _extract,
    exp.TimestampTrunc: _truncate,
    exp.DateTrunc: _truncate,
    exp.EQ: _any_or_all,
    exp.NEQ: _any_or_all,
    exp.ILike: _ilike,
    exp.RegexpLike: _regexp,
    exp.RegexpILike: _regexp,
    exp.Fetch: _fetch,
    exp.CurrentTimestamp: _now,
    exp.Localtimestamp: _now,
    exp.StrPosition: _position,
    exp.Substring: _substring,
    exp.Trim: _trim,
    exp.Left: _left,
    exp.Right: _right,
}
_NAMES: dict[type[exp.Expr], str] = {
    exp.Add: "date arithmetic",
    exp.Sub: "date arithmetic",
    exp.Cast: "casts",
    exp.Extract: "EXTRACT",
    exp.TimestampTrunc: "date_trunc",
    exp.DateTrunc: "date_trunc",
    exp.EQ: "= ANY",
    exp.NEQ: "<> ALL",
    exp.ILike: "ILIKE",
    exp.RegexpLike: "regular expression operators",
    exp.RegexpILike: "regular expression operators",
    exp.Fetch: "FETCH FIRST",
    exp.CurrentTimestamp: "now()",
    exp.Localtimestamp: "now()",
    exp.StrPosition: "position",
    exp.Substring: "substring",
    exp.Trim: "trim",
    exp.Left: "left",
    exp.Right: "right",
}
