"""The keys of a sandbox's configuration dict, and what each means."""

from collections.abc import Callable, Mapping
from typing import Any

from sandboxd_client.client import CreateOptions
from sandboxd_client.errors import InvalidArgument
from sandboxd_client.options import LanguagePolicy, Limits

_MIB = 1 << 20


def _same(value: Any) -> Any:
    return value


def _mib(value: float) -> int:
    return int(value * _MIB)


_LIMIT_KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "max_execution_time": ("execution_timeout", _same),  # seconds
    "max_memory_mb": ("memory_bytes", _mib),
    "max_cpu_percent": ("cpu_percent", int),
    "max_open_files": ("open_files", int),
    "max_threads": ("threads", int),
    "max_output_bytes": ("output_bytes", int),
    "max_result_bytes": ("result_bytes", int),
    "max_log_bytes": ("log_bytes", int),
    "max_source_bytes": ("source_bytes", int),
    "max_workspace_mb": ("workspace_bytes", _mib),
    "idle_timeout": ("idle_timeout", _same),  # seconds
}
_OTHER_KEYS = (
    "enable_debugging",
    "language_policy",  # "restricted" or "unrestricted"
    "allowed_modules",  # in place of the server's list
    "extra_allowed_modules",  # beside it
    "databases",  # names or DatabaseGrants
    "checkpoints",  # a CheckpointPolicy
)
ALLOWED_KEYS = (*_LIMIT_KEYS, *_OTHER_KEYS)


def create_options(config: Mapping[str, Any]) -> CreateOptions:
    """What `config` asks for; `InvalidArgument` names a key that is unknown and those that are allowed."""
    for key in config:
        if key not in ALLOWED_KEYS:
            problem = f"unknown key; allowed are {', '.join(ALLOWED_KEYS)}"
            raise InvalidArgument(f"config[{key!r}]: {problem}", violations={f"config.{key}": problem})
    options: CreateOptions = {}
    limits = {name: _value(key, config, read) for key, (name, read) in _LIMIT_KEYS.items() if key in config}
    if limits:
        options["limits"] = Limits(**limits)
    if "enable_debugging" in config:
        options["enable_debugging"] = bool(config["enable_debugging"])
    if "allowed_modules" in config or "extra_allowed_modules" in config:
        options["language_policy"] = LanguagePolicy(
            unrestricted=config.get("language_policy") == "unrestricted",
            allowed_modules=tuple(config.get("allowed_modules", ())),
            extra_allowed_modules=tuple(config.get("extra_allowed_modules", ())),
        )
    elif "language_policy" in config:
        options["language_policy"] = config["language_policy"]
    if "databases" in config:
        options["databases"] = tuple(config["databases"])
    if "checkpoints" in config:
        options["checkpoints"] = config["checkpoints"]
    return options


def _value(key: str, config: Mapping[str, Any], read: Callable[[Any], Any]) -> Any:
    try:
        return read(config[key] + 0)
    except (TypeError, ValueError):
        problem = f"must be a number, not {config[key]!r}"
        raise InvalidArgument(f"config[{key!r}]: {problem}", violations={f"config.{key}": problem}) from None
