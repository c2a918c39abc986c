"""The token of a server is found by itself, and never told to another machine."""

from pathlib import Path

import pytest
from sandboxd_client import Client, InvalidArgument
from sandboxd_client.credentials import find_address, find_token, token_files


def _token(path: Path, text: str = "sbt_file") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    return path


def test_environment_wins_over_files(tmp_path: Path) -> None:
    _token(tmp_path / "token")
    environment = {"SANDBOXD_TOKEN": "sbt_environment", "SANDBOXD_DATA_DIRECTORY": str(tmp_path)}
    assert find_token("127.0.0.1:1", environment) == "sbt_environment"


def test_token_file_of_the_settings_is_read(tmp_path: Path) -> None:
    _token(tmp_path / "token")
    assert find_token("localhost:1", {"SANDBOXD_DATA_DIRECTORY": str(tmp_path)}) == "sbt_file"
    other = _token(tmp_path / "other", "sbt_other")
    assert find_token("localhost:1", {"SANDBOXD_TOKEN_FILE": str(other)}) == "sbt_other"


def test_token_beside_a_unix_socket_is_read(tmp_path: Path) -> None:
    _token(tmp_path / "token")
    assert find_token(f"unix:{tmp_path}/socket", {}) == "sbt_file"


def test_token_file_is_not_read_for_another_machine(tmp_path: Path) -> None:
    _token(tmp_path / "token")
    environment = {"SANDBOXD_DATA_DIRECTORY": str(tmp_path)}
    assert token_files("sandbox.example:443", environment) == []
    assert find_token("sandbox.example:443", environment) is None


def test_state_directory_is_that_of_the_server(tmp_path: Path) -> None:
    from sandboxd.settings import default_state_directory

    environment = {"XDG_STATE_HOME": str(tmp_path)}
    assert token_files("127.0.0.1:1", environment) == [default_state_directory(environment) / "token"]


def test_other_machine_without_encryption_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="tls"):
        Client.connect("sandbox.example:443", token="sbt_x")


def test_address_comes_from_the_environment() -> None:
    assert find_address({"SANDBOXD_ADDRESS": "unix:/run/x"}) == "unix:/run/x"
    assert find_address({}) == "127.0.0.1:50051"


@pytest.mark.parametrize("address", ["127.0.0.1.example.org:1", "127.evil.example:1", "10.0.0.1:1"])
def test_name_that_begins_like_this_machine_gets_no_token(tmp_path: Path, address: str) -> None:
    _token(tmp_path / "token")
    assert token_files(address, {"SANDBOXD_DATA_DIRECTORY": str(tmp_path)}) == []
