"""docs/security.md speaks of tests and files that exist."""

import re
from pathlib import Path

from sandboxd.isolation.syscall_table import ALLOWED, ARGUMENT_RULES

_ROOT = Path(__file__).parents[2]
_TEXT = (_ROOT / "docs" / "security.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    sources = "\n".join(path.read_text() for path in (_ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", _TEXT):
        assert f"def {name}(" in sources, name


def test_every_file_that_is_named_exists() -> None:
    for name in re.findall(r"`([\w/]+\.py)`", _TEXT):
        places = (_ROOT / "sandboxd", _ROOT / "tests", _ROOT / "tests/security", _ROOT)
        folders = (_ROOT / "sandboxd" / folder for folder in ("isolation", "channel", "supervisor"))
        assert any((place / name).exists() for place in (*places, *folders)), name


def test_every_promise_names_a_test() -> None:
    rows = [line for line in _TEXT.splitlines() if re.match(r"\| P\d+ ", line)]
    assert len(rows) == 12
    assert all(row.rstrip(" |").rpartition("|")[2].strip().startswith("`") for row in rows)


def test_the_number_of_calls_is_about_what_it_says() -> None:
    calls = sum(len(group) for _, group in ALLOWED) + len(ARGUMENT_RULES)
    (said,) = re.findall(r"about (\d+) calls", _TEXT)
    assert abs(int(said) - calls) <= 10, calls
