"""docs/operations.md holds every setting, limit and figure, with the defaults of the code."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from sandboxd.limits import DEFAULT_LIMITS, MAXIMUM_LIMITS, Limits
from sandboxd.metrics.figures import Figures, Moment
from sandboxd.settings import Settings
from sandboxd.settings_tables import DatabaseSetting, QuotaSettings, SubjectSettings, TlsSettings

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
ROWS: dict[str, str] = dict(re.findall(r"^\| `([A-Za-z_.]+)` \| (.*) \|$", TEXT, re.MULTILINE))
_GROUPS: tuple[tuple[type[BaseModel], str], ...] = (
    (Settings, ""),
    (TlsSettings, "tls."),
    (SubjectSettings, "tls.subjects."),
    (QuotaSettings, "quotas."),
    (DatabaseSetting, "databases.NAME."),
)
_ELSEWHERE = {"quotas", "limits", "maximum_limits"}
"""Tables of settings that have rows of their own."""


def _settings() -> Iterator[tuple[str, object]]:
    for group, prefix in _GROUPS:
        for name, field in group.model_fields.items():
            if name not in _ELSEWHERE:
                yield prefix + name, "required" if field.is_required() else field.get_default()


@pytest.mark.parametrize(("name", "default"), list(_settings()), ids=[name for name, _ in _settings()])
def test_a_setting_is_documented_with_its_default(name: str, default: object) -> None:
    assert name in ROWS, f"docs/operations.md has no row for {name}"
    shown = ROWS[name].split(" | ")[0]
    if isinstance(default, str | int | float) and default != "":
        assert _number(shown) == _number(default)
    if isinstance(default, timedelta):
        assert _seconds(shown) == default.total_seconds()


def test_no_setting_is_documented_that_is_not_there() -> None:
    known = {name for name, _ in _settings()} | set(Limits.__dataclass_fields__)
    figures = {name for name in ROWS if name.startswith("sandboxd_")}
    assert set(ROWS) - known - figures <= {"user", "service", "admin"}


@pytest.mark.parametrize("name", list(Limits.__dataclass_fields__))
def test_a_limit_is_documented_with_default_and_ceiling(name: str) -> None:
    default, most = ROWS[name].split(" | ")
    for shown, value in ((default, getattr(DEFAULT_LIMITS, name)), (most, getattr(MAXIMUM_LIMITS, name))):
        if isinstance(value, timedelta):
            assert _seconds(shown) == value.total_seconds()
        else:
            assert _number(shown) == _number(value)


def test_every_figure_is_documented() -> None:
    registry = CollectorRegistry()
    nothing = Moment(
        ready_guests=0,
        live_guests=0,
        active_sandboxes=0,
        running_executions=0,
        queued_executions=0,
        aged_zygotes=0,
        dead_zygotes=0,
        silent_zygotes=0,
        histories_set_aside=0,
    )
    Figures(registry=registry, moment=lambda: nothing, version="1", grade="FULL")
    missing = [
        family.name
        for family in registry.collect()
        if family.name.startswith("sandboxd_")
        and family.name not in TEXT
        and f"`_{family.name.rpartition('_')[2]}`" not in TEXT
    ]
    assert missing == []


def _number(shown: object) -> object:
    """512 MiB and 536870912 are one number; what is no number stays a text."""
    if isinstance(shown, bool):
        return str(shown).lower()
    found = re.match(r"^([0-9.]+)(?: (MiB|GiB))?\b", str(shown))
    if found is None or re.match(r"^[0-9]+\.[0-9]+\.", str(shown)):
        return str(shown)
    return float(found[1]) * {None: 1, "MiB": 1 << 20, "GiB": 1 << 30}[found[2]]


def _seconds(shown: str) -> float:
    number, unit = shown.split(" ")
    return float(number) * {"s": 1, "min": 60, "h": 3600, "days": 86400}[unit]
