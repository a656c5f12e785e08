"""What is installed: the command, its license, and the wheel and sdist that are built."""

import importlib.metadata
import subprocess
import sys
import tarfile
import zipfile

import pytest

from tests.support import ROOT


def run(*command, **options):
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=300, **options
    )


def test_python_m_receiver_is_the_command():
    help = run("-m", "receiver", "--help", cwd=ROOT)
    assert help.returncode == 0
    assert help.stdout.startswith("Usage: callhouse")


def test_another_schema_package_is_refused(tmp_path):
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "__init__.py").touch()
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import schema\n"
    script += f"sys.path.insert(0, {str(ROOT)!r}); from receiver.__main__ import main; main()"
    refused = run("-c", script, cwd=tmp_path)
    assert refused.returncode == 2
    assert "another package named schema" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_metadata_names_license_and_authors():
    metadata = importlib.metadata.metadata("callhouse")
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"] == "The callhouse authors"
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")


@pytest.mark.slow
def test_wheel_and_sdist_build_and_pass_twine(tmp_path):
    pytest.importorskip("build", reason="needs `make test-all`, which installs build and twine")
    built = run("-m", "build", "--outdir", tmp_path, ROOT)
    assert built.returncode == 0, built.stderr
    checked = run("-m", "twine", "check", "--strict", *tmp_path.iterdir())
    assert checked.returncode == 0, checked.stdout

    (wheel,) = tmp_path.glob("*.whl")
    inside = zipfile.ZipFile(wheel)
    names = set(inside.namelist())
    # All that is read at run time, whatever its ending.
    for package in ("receiver", "schema"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert str(path.relative_to(ROOT)) in names
    (metadata,) = (name for name in names if name.endswith("/METADATA"))
    readme = inside.read(metadata).decode()
    assert "](docs/" not in readme, "a relative link is dead on a package index"
    assert readme.count("](https://raw.githubusercontent.com/") >= 5

    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("/LICENSE") for name in archive.getnames())
