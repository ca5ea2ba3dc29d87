"""What is written agrees with what is there: slugs of problems, links between documents, the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REFUSAL = re.compile(r'(?:Problem|refusal|BadRequest)\(\s*\d{3},\s*"([a-z0-9-]+)"')
LINK = re.compile(r"\]\(([^)#:]+)\)")
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_each_slug_is_in_the_protocol() -> None:
    described = set(re.findall(r"`([a-z0-9-]+)`", (ROOT / "docs/protocol.md").read_text("utf-8")))
    said = {
        slug
        for part in ("agent", "server")
        for path in (ROOT / part).rglob("*.py")
        for slug in REFUSAL.findall(path.read_text("utf-8"))
    }
    assert len(said) > 50
    assert not said - described


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


def test_the_tree_in_architecture_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    tree = text.split("## The tree", 1)[1].split("```")[1]
    parent = ROOT
    for line in filter(None, tree.splitlines()):
        if line.startswith(" " * 8):
            continue  # goes on with the line before
        name = line.split()[0]
        if not line.startswith(" "):
            parent = ROOT / name
        assert ((parent / name) if line.startswith(" ") else parent).exists(), name
    # And the other way round: each package of the programs is told of.
    for package in ("agent/fallow_agent", "server/fallow_server"):
        for path in (ROOT / package).iterdir():
            if (path / "__init__.py").exists():
                assert f"    {path.name}/" in tree, path
