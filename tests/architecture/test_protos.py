"""The contract: complete in comments and options, and one with its generated stubs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
GENERATOR = ROOT / "scripts" / "generate_protos.py"

SERVICE_FIELD = 6  # FileDescriptorProto.service
METHOD_FIELD = 2  # ServiceDescriptorProto.method


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    target = tmp_path_factory.mktemp("contract") / "descriptors"
    sources = [path.relative_to(PROTOS).as_posix() for path in sorted(PROTOS.rglob("*.proto"))]
    options = [f"-I{PROTOS}", "--include_source_info", f"--descriptor_set_out={target}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *sources], check=True)
    return list(FileDescriptorSet.FromString(target.read_bytes()).file)


def enums_of(message: DescriptorProto, prefix: str) -> Iterator[tuple[str, EnumDescriptorProto]]:
    path = f"{prefix}.{message.name}"
    for enum in message.enum_type:
        yield f"{path}.{enum.name}", enum
    for nested in message.nested_type:
        yield from enums_of(nested, path)


def test_protos_as_committed_regenerate_the_committed_stubs() -> None:
    finished = subprocess.run(
        [sys.executable, GENERATOR, "--check"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_stub_edited_by_hand_is_found_and_named(tmp_path: Path) -> None:
    copy = tmp_path / "repository"
    for relative in ("protos", "scripts", "clients/python/sandboxd_api"):
        subprocess.run(["mkdir", "-p", copy / relative], check=True)
        subprocess.run(["cp", "-r", f"{ROOT / relative}/.", copy / relative], check=True)
    stub = copy / "clients/python/sandboxd_api/v1/value_pb2.py"
    stub.write_text(stub.read_text() + "\n")
    (stub.parent / "extra_pb2.py").touch()
    (stub.parent / "sandbox_pb2.pyi").unlink()

    finished = subprocess.run(
        [sys.executable, copy / "scripts/generate_protos.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 1
    assert finished.stdout.splitlines()[:3] == [
        "superfluous: v1/extra_pb2.py",
        "missing: v1/sandbox_pb2.pyi",
        "stale: v1/value_pb2.py",
    ]


def test_every_rpc_has_a_comment_and_says_whether_it_may_be_repeated(
    contract: list[FileDescriptorProto],
) -> None:
    incomplete = []
    count = 0
    for file in contract:
        comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        for service_index, service in enumerate(file.service):
            for method_index, method in enumerate(service.method):
                count += 1
                comment = comments.get((SERVICE_FIELD, service_index, METHOD_FIELD, method_index), "")
                if not comment.strip() or not method.options.HasField("idempotency_level"):
                    incomplete.append(f"{service.name}.{method.name}")
    assert count > 0
    assert incomplete == []


def test_every_rpc_has_a_request_and_response_of_its_own(contract: list[FileDescriptorProto]) -> None:
    types = [
        (method.name, method.input_type.rpartition(".")[2], method.output_type.rpartition(".")[2])
        for file in contract
        for service in file.service
        for method in service.method
    ]
    assert types == [(name, f"{name}Request", f"{name}Response") for name, _, _ in types]


def test_zero_of_every_enum_is_unspecified(contract: list[FileDescriptorProto]) -> None:
    enums = [(enum.name, enum) for file in contract for enum in file.enum_type]
    for file in contract:
        for message in file.message_type:
            enums.extend(enums_of(message, file.package))
    wrong = [
        name
        for name, enum in enums
        if enum.value[0].number != 0 or not enum.value[0].name.endswith("_UNSPECIFIED")
    ]
    assert enums
    assert wrong == []


def test_protos_import_nothing_but_each_other_and_google_protobuf(
    contract: list[FileDescriptorProto],
) -> None:
    foreign = [
        name
        for file in contract
        for name in file.dependency
        if not name.startswith(("sandboxd_api/v1/", "google/protobuf/"))
    ]
    assert foreign == []


def test_protos_lint_without_exceptions_and_are_formatted() -> None:
    buf = Path(sys.executable).parent / "buf"
    for arguments in (["lint"], ["format", "--diff", "--exit-code"]):
        finished = subprocess.run([buf, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "except" not in (ROOT / "buf.yaml").read_text()
    assert "ignore" not in (ROOT / "buf.yaml").read_text()
