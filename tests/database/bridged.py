"""What the bridge carries from PostgreSQL to SQLite, and what it refuses by name.

`docs/database.md` holds the table that `python -m tests.database.bridged` prints; a test compares them.
"""

from typing import NamedTuple


class Carried(NamedTuple):
    construct: str
    sql: str


CARRIED = [
    Carried("NOW(), CURRENT_TIMESTAMP", "SELECT now() > '2024-01-01' AS later"),
    Carried(
        "x ± INTERVAL '...'",
        "SELECT created_at + INTERVAL '1 month 2 days 03 hours' AS x FROM users ORDER BY id",
    ),
    Carried("x ± INTERVAL '...'", "SELECT timestamp '2024-01-31' + interval '1 month' AS x"),
    Carried("x ± INTERVAL '...'", "SELECT timestamp '2024-03-31' - interval '1 year 1 month' AS x"),
    Carried(
        "x ± INTERVAL '...'",
        "SELECT count(*) AS n FROM user_activities WHERE timestamp > now() - interval '7 days'",
    ),
    Carried("date ± days", "SELECT created_at::date - 30 AS x FROM users ORDER BY id"),
    Carried("date ± days", "SELECT date '2024-03-01' - 1 AS x"),
    Carried("date - date", "SELECT date '2024-03-01' - date '2024-02-01' AS x"),
    Carried(
        "date_trunc",
        "SELECT date_trunc('month', created_at) AS m, count(*) AS n FROM users GROUP BY 1 ORDER BY 1",
    ),
    Carried("date_trunc", "SELECT date_trunc('week', created_at) AS x FROM users ORDER BY id"),
    Carried("date_trunc", "SELECT date_trunc('quarter', created_at) AS x FROM users ORDER BY id"),
    Carried("date_trunc", "SELECT date_trunc('hour', created_at) AS x FROM users ORDER BY id"),
    Carried(
        "EXTRACT, date_part",
        "SELECT EXTRACT(year FROM created_at) AS y, EXTRACT(dow FROM created_at) AS d FROM users ORDER BY id",
    ),
    Carried(
        "EXTRACT, date_part",
        "SELECT date_part('quarter', created_at) AS q, date_part('doy', created_at) AS d FROM users ORDER BY id",
    ),
    Carried(
        "EXTRACT, date_part",
        "SELECT EXTRACT(epoch FROM created_at) AS e, EXTRACT(isodow FROM created_at) AS i FROM users ORDER BY id",
    ),
    Carried("casts x::type", "SELECT created_at::date AS x FROM users ORDER BY id"),
    Carried(
        "casts x::type",
        "SELECT id::text AS t, '12'::int AS i, score::int AS s FROM pipeline_input ORDER BY id",
    ),
    Carried("casts x::type", "SELECT '2024-01-31'::timestamp AS x, CAST('2024-01-31 10:00' AS date) AS d"),
    Carried("casts x::type", "SELECT 1.5::float8 AS f, 'x'::varchar AS v"),
    Carried("ILIKE", "SELECT count(*) AS n FROM users WHERE name ILIKE 'a%'"),
    Carried(
        "~, ~*, !~, !~*", "SELECT count(*) AS n FROM documents WHERE title ~* 'REPORT' AND title !~ '9$'"
    ),
    Carried("= ANY(:list), <> ALL(:list)", "SELECT name FROM users WHERE id = ANY(:ids) ORDER BY id"),
    Carried("= ANY(:list), <> ALL(:list)", "SELECT count(*) AS n FROM users WHERE id <> ALL(:ids)"),
    Carried(
        "= ANY(:list), <> ALL(:list)",
        "SELECT count(*) AS n FROM users WHERE plan = ANY(ARRAY['free', 'team'])",
    ),
    Carried("left, right", "SELECT left(name, 2) AS l, right(email, 3) AS r FROM users ORDER BY id"),
    Carried("left, right", "SELECT left(name, -2) AS l, right(name, -2) AS r FROM users ORDER BY id"),
    Carried("position, substring, trim", "SELECT position('@' in email) AS p FROM users ORDER BY id"),
    Carried(
        "position, substring, trim",
        "SELECT substring(email from 2 for 3) AS s, trim(both 'x' from 'xax') AS t FROM users ORDER BY id",
    ),
    Carried("FETCH FIRST", "SELECT id FROM users ORDER BY id FETCH FIRST 3 ROWS ONLY"),
    Carried(
        "split_part", "SELECT split_part(email, '@', 2) AS d, count(*) AS n FROM users GROUP BY 1 ORDER BY 1"
    ),
    Carried("split_part", "SELECT split_part('a,b,c', ',', -1) AS x, split_part('a,b', ',', 5) AS y"),
    Carried("concat, concat_ws", "SELECT concat('a', NULL, 1) AS x, concat_ws('-', 'a', NULL, 'b') AS y"),
    Carried(
        "initcap, md5, lpad, reverse",
        "SELECT initcap('hello wORLD') AS i, md5('a') AS m, lpad('7', 3, '0') AS l, reverse('abc') AS r",
    ),
    Carried("greatest, least", "SELECT greatest(1, NULL, 3) AS g, least(2, NULL, 1) AS l"),
    Carried("regexp_replace", "SELECT regexp_replace(email, '@.*', '') AS x FROM users ORDER BY id"),
    Carried("regexp_replace", "SELECT regexp_replace('aXbX', 'x', '-', 'gi') AS x"),
    Carried(
        "string_agg", "SELECT string_agg(name, ', ') AS x FROM (SELECT name FROM users ORDER BY id LIMIT 5) t"
    ),
    Carried("bool_and, bool_or", "SELECT bool_and(id > 0) AS a, bool_or(id > 100) AS o FROM users"),
    Carried("stddev, variance", "SELECT round(stddev(id)) AS s, round(variance(id)) AS v FROM users"),
    Carried("booleans", "SELECT id FROM documents WHERE processed = false ORDER BY id LIMIT 20"),
    Carried("booleans", "SELECT id, processed FROM documents WHERE id > 20 ORDER BY id LIMIT 20"),
    Carried(
        "FILTER, window functions, CTEs",
        "SELECT plan, count(*) FILTER (WHERE is_active) AS n FROM users GROUP BY plan ORDER BY plan",
    ),
    Carried(
        "FILTER, window functions, CTEs",
        "WITH t AS (SELECT id, rank() OVER (ORDER BY plan, id) AS r FROM users) SELECT * FROM t ORDER BY id LIMIT 9",
    ),
    Carried(
        "-> and ->> with a key",
        "SELECT details ->> 'device' AS d, count(*) > 0 AS n FROM user_activities GROUP BY 1 ORDER BY 1",
    ),
    Carried("LIKE tells upper from lower case", "SELECT count(*) AS n FROM users WHERE name LIKE 'a%'"),
]
REFUSED = [
    ("WITHIN GROUP, percentile_*, mode", "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY id) FROM users"),
    ("ARRAY, array functions, subscripts", "SELECT ARRAY[1, 2]"),
    ("ARRAY, array functions, subscripts", "SELECT array_agg(id) FROM users"),
    ("ARRAY, array functions, subscripts", "SELECT (ARRAY[1])[1]"),
    ("ARRAY, array functions, subscripts", "SELECT * FROM unnest(ARRAY[1])"),
    ("generate_series", "SELECT * FROM generate_series(1, 3)"),
    ("LATERAL", "SELECT * FROM users u, LATERAL (SELECT 1) t"),
    ("DISTINCT ON", "SELECT DISTINCT ON (plan) * FROM users"),
    ("GROUPING SETS, ROLLUP, CUBE", "SELECT plan FROM users GROUP BY ROLLUP (plan)"),
    ("column names after AS in FROM", "SELECT id::int FROM (VALUES (1, 'a')) AS t(id, label)"),
    ("jsonb operators @> ? #>>", "SELECT details #>> '{device}' FROM user_activities"),
    ("jsonb operators @> ? #>>", "SELECT details @> '{}' FROM user_activities"),
    ("age, to_char, make_date ...", "SELECT age(created_at) FROM users"),
    ("age, to_char, make_date ...", "SELECT to_char(created_at, 'YYYY') FROM users"),
    ("AT TIME ZONE", "SELECT created_at AT TIME ZONE 'UTC' FROM users"),
    ("timestamp - timestamp", "SELECT now() - created_at FROM users"),
    ("timestamp - timestamp", "SELECT updated_at - updated_at FROM documents"),
    ("intervals from columns", "SELECT created_at + id * INTERVAL '1 day' FROM users"),
    ("SIMILAR TO", "SELECT name SIMILAR TO 'a%' FROM users"),
    ("other casts", "SELECT '10.0.0.1'::inet"),
    ("TABLESAMPLE", "SELECT * FROM users TABLESAMPLE SYSTEM (10)"),
]


def table() -> str:
    """The published list as Markdown."""
    lines = ["| construct | on SQLite |", "| --- | --- |"]
    seen: dict[str, str] = dict.fromkeys((item.construct for item in CARRIED), "runs, same rows")
    seen |= dict.fromkeys((name for name, _ in REFUSED), "refused by name")
    return "\n".join(
        lines + [f"| {name.replace('|', chr(92) + '|')} | {what} |" for name, what in seen.items()]
    )


if __name__ == "__main__":
    print(table())
