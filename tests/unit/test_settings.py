"""Settings: where they come from, and that a wrong one is named."""

from datetime import timedelta
from pathlib import Path

import pytest

from sandboxd.settings import SettingsError, load_settings


def test_later_sources_win(tmp_path: Path) -> None:
    config = tmp_path / "s.toml"
    config.write_text(
        'port = 1\npool_size = 3\n[limits]\nmemory_bytes = 33554432\nexecution_timeout = "PT5S"\n'
    )
    environment = {"SANDBOXD_PORT": "2", "SANDBOXD_LIMITS__MEMORY_BYTES": "67108864", "OTHER": "x"}
    settings = load_settings(config=config, environment=environment, host="::1")
    assert (settings.port, settings.pool_size, settings.host) == (2, 3, "::1")
    assert settings.default_limits.memory_bytes == 1 << 26
    assert settings.default_limits.execution_timeout == timedelta(seconds=5)
    assert load_settings(environment={"SANDBOXD_CONFIG": str(config)}).port == 1


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"SANDBOXD_PROT": "1"}, "prot: no such setting"),
        ({"SANDBOXD_PORT": "70000"}, "port"),
        ({"SANDBOXD_PORT": "x"}, "port"),
        ({"SANDBOXD_MINIMUM_GRADE": "NONE"}, "minimum_grade"),
        ({"SANDBOXD_LIMITS__THREADS": "-1"}, "limits.threads"),
        ({"SANDBOXD_LIMITS__THREADS": "65"}, "limits.threads is above maximum_limits.threads"),
        ({"SANDBOXD_LIMITS": "x", "SANDBOXD_LIMITS__THREADS": "1"}, "limits"),
        ({"SANDBOXD_HOST": "0.0.0.0"}, "not loopback"),
        ({"SANDBOXD_CONFIG": "/nowhere.toml"}, "/nowhere.toml"),
    ],
)
def test_a_wrong_setting_is_named(environment: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(environment=environment)
    assert named in str(refused.value)


def test_lists_are_words_between_commas() -> None:
    settings = load_settings(environment={"SANDBOXD_WITHOUT_LAYERS": "cgroups,landlock"})
    assert settings.without_layers == {"cgroups", "landlock"}


def test_reflection_is_on_for_loopback_only(tmp_path: Path) -> None:
    assert load_settings(environment={}).serves_reflection
    tls = {"certificate": str(tmp_path / "c"), "key": str(tmp_path / "k")}
    assert not load_settings(environment={}, host="10.0.0.1", tls=tls).serves_reflection
