"""Runs the guide: the commands that docs/install.md gives, by the heading that they stand under."""

from __future__ import annotations

import re
from pathlib import Path

GUIDE = Path(__file__).parents[3] / "docs/install.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(heading: str) -> list[str]:
    """The shell blocks of the English section with that heading."""
    text = GUIDE.read_text("utf-8").split("\n## 中文")[0]
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    return BLOCK.findall(sections[heading])


def filled(block: str, **values: str) -> str:
    """``<publisher id>`` and such replaced. Every one must be given."""
    for name, value in values.items():
        block = block.replace(f"<{name.replace('_', ' ')}>", value)
    assert not re.search(r"<[a-z]", block), block
    return block
