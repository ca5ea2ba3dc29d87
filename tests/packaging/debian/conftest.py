"""What tests of packages share: the packages, built once, and a network of Debian machines."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import roots
from debs import PAGES, PREVIOUS, build, version_of_repository
from machines import Machine
from world import OWNER, SERVER, Repository, World, world

PROGRAMS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "dpkg-buildpackage": "dpkg-dev",
    "dh": "debhelper",
    "dh_python3": "dh-python",
    "lintian": "lintian",
    "gpg": "gnupg",
    "ip": "iproute2",
    "nft": "nftables",
    "openssl": "openssl",
    "curl": "curl",
}


def why_not() -> str:
    """What these tests lack on this computer; empty where nothing."""
    if os.geteuid() != 0:
        return "needs root, to boot Debian machines"
    lacking = [f"{name} ({package})" for name, package in PROGRAMS.items() if shutil.which(name) is None]
    if lacking:
        return f"needs {', '.join(lacking)}"
    if not (PAGES / "index.html").exists():
        return "needs the pages of browsers: make web"
    return "" if roots.mirror() else "needs Debian's packages: this computer's apt has none; set FALLOW_DEBIAN_MIRROR"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    reason = why_not() if here else ""
    for item in here:
        item.add_marker(pytest.mark.timeout(2400))
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def version() -> str:
    return version_of_repository()


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("previous"), PREVIOUS)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    made = Repository(tmp_path_factory.mktemp("repository"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, repository: Repository) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world"), repository) as made:
        yield made


@pytest.fixture(scope="module")
def server(network: World) -> Iterator[Machine]:
    """A bare Debian 13, whose Caddy will take the certificates of this network instead of asking for public ones."""
    files = {
        "/etc/tests.pem": network.certificate,
        "/etc/systemd/system/caddy.service.d/tests.conf": (
            "[Service]\nEnvironment='FALLOW_TLS=tls /etc/tests.pem /etc/tests.pem'\n"
        ),
    }
    with network.machine(roots.TRIXIE, SERVER, "server", **files) as made:
        yield made


@pytest.fixture(scope="module")
def owner(network: World) -> Iterator[Machine]:
    """The owner's computer in the home of the device, a bare Debian 12."""
    with network.machine(roots.BOOKWORM, OWNER, "laptop") as made:
        yield made
