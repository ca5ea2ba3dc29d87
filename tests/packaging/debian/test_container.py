"""The container's files, where no engine is: each instruction is known, and names what is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import roots
import yaml
from fallow_server.config import load

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "packaging/docker/Dockerfile"
COMPOSE = ROOT / "packaging/docker/compose.yaml"


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in DOCKERFILE.read_text("utf-8").splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line]


def test_the_dockerfile() -> None:
    found = instructions()
    known = {"FROM", "RUN", "COPY", "WORKDIR", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in found} <= known
    last = [name for name, _ in found][::-1].index("FROM")
    final = dict(found[len(found) - last :])
    assert final["USER"] == "fallow-server"
    assert final["VOLUME"] == str(load({}, {}).state_dir)
    http = load({}, {}).http
    assert final["EXPOSE"] == f"{http.scheduler_port} {http.ledger_port}"


def test_its_packages_are_debians() -> None:
    known = set((roots.root(roots.TRIXIE) / roots.NAMES).read_text().split())
    wanted: set[str] = set()
    for name, arguments in instructions():
        if name == "RUN":
            for command in re.findall(r"apt-get install (.*?)(?:&&|$)", arguments):
                wanted |= {word for word in shlex.split(command) if not word.startswith(("-", "/"))}
    assert len(wanted) > 10
    assert wanted <= known


def test_the_compose_file() -> None:
    compose: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
    server, caddy = compose["services"]["server"], compose["services"]["caddy"]
    assert (COMPOSE.parent / server["build"]["context"] / server["build"]["dockerfile"]).resolve() == DOCKERFILE
    config = load({}, {name: str(value) for name, value in server["environment"].items()})
    assert config.http.trusted_proxies == (caddy["networks"]["inside"]["ipv4_address"],)
    caddyfile = (COMPOSE.parent / caddy["volumes"][0].split(":")[0]).read_text("utf-8")
    for name in caddy["environment"]:
        assert f"{{${name}" in caddyfile
    for url in (config.http.scheduler_url, config.http.ledger_url):
        assert f"\n{url.removeprefix('https://')} {{" in caddyfile
