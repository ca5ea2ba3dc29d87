"""The packages: lintian, the same bytes twice, one owner of each file; the repository, and what apt refuses."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from debs import build
from world import Repository

NAMES = ("fallow", "fallow-agent", "fallow-server", "python3-fallow-wire")


def digests(folder: Path, pattern: str = "*") -> dict[str, str]:
    files = [path for path in sorted(folder.rglob(pattern)) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def output(*command: object) -> str:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def test_there_are_four_of_the_repositorys_version(packages: Path, version: str) -> None:
    assert sorted(path.name for path in packages.glob("*.deb")) == sorted(f"{name}_{version}_all.deb" for name in NAMES)


def test_lintian_finds_no_error(packages: Path) -> None:
    (changes,) = packages.glob("*.changes")
    command = ["lintian", "--no-cfg", "--allow-root", "--fail-on", "error,warning", changes]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_sources_give_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    again = build(tmp_path)
    assert digests(again, "*.deb") == digests(packages, "*.deb")
    assert len(digests(again, "*.deb")) == 4


def test_every_file_has_one_owner(packages: Path) -> None:
    owners: dict[str, str] = {}
    for package in packages.glob("*.deb"):
        for line in output("dpkg-deb", "--contents", package).splitlines():
            path = line.split(maxsplit=5)[5]
            if not path.endswith("/"):
                assert path not in owners, f"{path} is in {owners[path]} and {package.name}"
                owners[path] = package.name
    assert len(owners) > 200


@pytest.mark.parametrize("name", NAMES)
def test_scripts_are_sound(packages: Path, version: str, name: str, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--control", packages / f"{name}_{version}_all.deb", tmp_path / "c"], check=True)
    scripts = [path for path in (tmp_path / "c").iterdir() if path.name in ("preinst", "postinst", "prerm", "postrm")]
    assert scripts
    for script in scripts:
        subprocess.run(["sh", "-n", script], check=True)


def test_the_repository_is_the_same_twice(packages: Path, previous: Path, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    try:
        for folder in ("one", "other"):
            (tmp_path / folder).mkdir()
            repository.publish(previous, tmp_path / folder)
            repository.publish(packages, tmp_path / folder)
        assert digests(tmp_path / "one") == digests(tmp_path / "other")
        # Added in one go, it is no other repository.
        (tmp_path / "both").mkdir()
        for folder in (packages, previous):
            for package in folder.glob("*.deb"):
                (tmp_path / "both" / package.name).write_bytes(package.read_bytes())
        (tmp_path / "third").mkdir()
        repository.publish(tmp_path / "both", tmp_path / "third")
        assert digests(tmp_path / "third") == digests(tmp_path / "one")
    finally:
        repository.close()


def apt(folder: Path, served: Path) -> subprocess.CompletedProcess[str]:
    """``apt-get update`` of this computer's apt, with that repository as its only source."""
    for part in ("lists/partial", "etc", "cache"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    key = served / "fallow-packages.asc"
    (folder / "sources.list").write_text(f"deb [signed-by={key}] file:{served} stable main\n")
    options = {
        "Dir::State::lists": folder / "lists",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": folder / "etc",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return subprocess.run(["apt-get", *flags, "update"], capture_output=True, text=True)


def test_apt_takes_what_the_key_has_signed_and_nothing_else(packages: Path, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    try:
        repository.publish(packages)
    finally:
        repository.close()
    good = apt(tmp_path / "good", repository.directory)
    assert good.returncode == 0, good.stderr
    assert "W:" not in good.stderr
    release = repository.directory / "dists/stable/InRelease"
    release.write_text(re.sub(r"^(Label: )Fallow", r"\1Other", release.read_text(), flags=re.MULTILINE))
    changed = apt(tmp_path / "changed", repository.directory)
    assert changed.returncode != 0
    assert "BADSIG" in changed.stderr


def test_a_package_is_never_replaced_by_another_of_its_version(packages: Path, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    try:
        repository.publish(packages)
        (package, *_) = packages.glob("fallow-agent_*.deb")
        (other / package.name).write_bytes(package.read_bytes() + b"\n")
        with pytest.raises(subprocess.CalledProcessError):
            repository.publish(other)
    finally:
        repository.close()


def test_only_the_newest_versions_stay(packages: Path, previous: Path, tmp_path: Path, version: str) -> None:
    repository = Repository(tmp_path)
    try:
        repository.publish(previous)
        repository.publish(packages, keep=1)
        assert {path.name for path in (repository.directory / "pool").iterdir()} == {
            f"{name}_{version}_all.deb" for name in NAMES
        }
    finally:
        repository.close()
