"""Regenerates the stubs of the contract: the one way to change `clients/python/sandboxd_api`.

`python scripts/generate_protos.py` writes them, with `--check` it exits 1 and names what differs.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE_PARENT = ROOT / "clients" / "python"
PACKAGE = "sandboxd_api"

KEPT_SUFFIXES = frozenset({".py", ".pyi", ".proto", ".typed"})
"""Files of the package that are compared; a cache beside them is not."""


class GenerationFailed(Exception):
    """protoc could not translate the contract; its own words are on stderr."""


def run_protoc(sources: list[str], outputs: list[str]) -> None:
    """Translate `sources` with the plugins beside this interpreter."""
    scripts = Path(sys.executable).parent
    plugins = [
        f"--plugin=protoc-gen-{name}={scripts / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")
    ]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}"]
    if subprocess.run([*protoc, *plugins, *outputs, *sources], check=False).returncode != 0:
        raise GenerationFailed


def generate(parent: Path) -> None:
    """Write the whole package below `parent`, which must not hold one yet."""
    sources = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))
    services = [source for source in sources if source.endswith("_service.proto")]
    run_protoc(sources, [f"--python_out={parent}", f"--mypy_out=quiet:{parent}"])
    run_protoc(services, [f"--grpc_python_out={parent}", f"--mypy_grpc_out=quiet:{parent}"])
    for source in sources:
        # A client in another language reads the contract from the installed package.
        shutil.copyfile(PROTOS / source, parent / source)
    package = parent / PACKAGE
    for folder in {package, *(path.parent for path in package.rglob("*.proto"))}:
        (folder / "__init__.py").touch()
    (package / "py.typed").touch()


def files_of(package: Path) -> dict[str, bytes]:
    """Each file of a package, by its path in it."""
    return {
        path.relative_to(package).as_posix(): path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and path.suffix in KEPT_SUFFIXES
    }


def differences(fresh: dict[str, bytes], committed: dict[str, bytes]) -> list[str]:
    """What must be done to `committed` to make it `fresh`, one line a file."""
    lines = []
    for name in sorted(fresh.keys() | committed.keys()):
        if name not in committed:
            lines.append(f"missing: {name}")
        elif name not in fresh:
            lines.append(f"superfluous: {name}")
        elif fresh[name] != committed[name]:
            lines.append(f"stale: {name}")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Generate or check; the exit code is 0 when the package is, or now is, up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 when the stubs are stale"
    )
    options = parser.parse_args(arguments)
    package = PACKAGE_PARENT / PACKAGE
    with tempfile.TemporaryDirectory(prefix="sandboxd-protos-") as folder:
        try:
            generate(Path(folder))
        except GenerationFailed:
            return 1
        if options.check:
            found = differences(files_of(Path(folder) / PACKAGE), files_of(package))
            for line in found:
                print(line)
            if found:
                print("run python scripts/generate_protos.py and commit the result")
            return 1 if found else 0
        shutil.rmtree(package, ignore_errors=True)
        shutil.copytree(Path(folder) / PACKAGE, package)
    return 0


if __name__ == "__main__":
    sys.exit(main())
