"""Statements for people: the same figures as the signed one, in two languages, and nothing that could run."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from fallow_server.ledger.counterfactuals import counterfactuals
from fallow_server.ledger.printing import CSV_COLUMNS, ZH, as_csv, as_page, points
from fallow_server.ledger.statements import months_between
from fallow_wire.batches import Head
from fallow_wire.jws import Kind, verify
from fallow_wire.statements import ServiceLine, Statement, StatementLine
from fallow_wire.tariff import Factors, LegacyCaps, Tariff
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import OPERATOR, OTHER, OWNER, PUBLISHER, World, in_world

GIB = 2**30
POINT = 1_000_000
TARIFF = Tariff(1, 0, {"object": POINT}, {"countersigned": 1000, "legacy": 500}, LegacyCaps(1, 1))
EXAMPLE = Statement(
    account="own-1",
    month="2026-10",
    from_at=1,
    until_at=2,
    complete=True,
    opening={"held": 2 * POINT},
    closing={"held": 2 * POINT + 1, "vested": 1234 * POINT},
    lines=(
        StatementLine("held", "settlement", "in", 3, 1234 * POINT + 1),
        StatementLine("held", "vesting", "out", 1, 1234 * POINT),
        StatementLine("vested", "vesting", "in", 1, 1234 * POINT),
    ),
    services=(ServiceLine("object", "legacy", 3, 5 * GIB, 1234 * POINT + 1),),
    head=Head(9, "a" * 64, 3),
    iat=1_800_000_000,
)


class Reader(HTMLParser):
    """Text and elements of a page; fails on what is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.elements: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attributes)
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style" and data.strip():
            self.text.append(data.strip())


def test_the_page_says_it_all_in_both_languages() -> None:
    english, chinese = Reader(as_page(EXAMPLE, "a.b.c", "en")), Reader(as_page(EXAMPLE, "a.b.c", "zh"))
    for found, words in (
        (english, ("Statement 2026-10", "held", "vesting", "legacy", "At the end")),
        (chinese, ("对账单 2026-10", "暂时保留", "到期", "无回执", "月末")),
    ):
        for text in (*words, "own-1", "1,234.000001", "1,234", "2.000001", "5.0 GiB", "a.b.c"):
            assert text in found.text, text
        assert not {"script", "img", "link", "iframe"} & set(found.elements)
    assert english.elements == chinese.elements
    shown = " ".join(chinese.text)
    assert not re.search(r"\b(held|vested|settlement|vesting|Balance|Points|Signature)\b", shown)
    assert all(english_words.count("{") == chinese_words.count("{") for english_words, chinese_words in ZH.items())


def test_the_table_has_each_figure_and_the_proof() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(EXAMPLE, "a.b.c"))))
    assert tuple(rows[0]) == CSV_COLUMNS
    by_section: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_section.setdefault(row["section"], []).append(row)
    assert {row["balance"]: int(row["micro_points"]) for row in by_section["closing"]} == EXAMPLE.closing
    moved = [
        (r["balance"], r["kind"], r["direction"], int(r["count"]), int(r["micro_points"]))
        for r in by_section["movement"]
    ]
    assert moved == [(one.balance, one.kind, one.direction, one.entries, one.micro_points) for one in EXAMPLE.lines]
    assert by_section["delivery"][0]["bytes"] == str(5 * GIB)
    assert by_section["signed"][0]["text"] == "a.b.c"


def test_a_running_month_says_so() -> None:
    from dataclasses import replace

    running = as_page(replace(EXAMPLE, complete=False), "a.b.c", "en")
    assert "This month is not over" in running
    assert "This month is not over" not in as_page(EXAMPLE, "a.b.c", "en")


@given(st.integers(0, 2**53))
def test_points_lose_nothing_in_print(micro_points: int) -> None:
    whole, _, rest = points(micro_points).replace(",", "").partition(".")
    assert int(whole) * POINT + int((rest or "0").ljust(6, "0")) == micro_points


def test_months() -> None:
    # 14 November 2023, 31 January 2024 (UTC)
    assert months_between(1_700_000_000, 1_706_745_599) == ["2023-11", "2023-12", "2024-01"]
    assert months_between(1_700_000_000, 1_700_000_000) == ["2023-11"]


def test_a_statement_that_is_complete_stays_the_same_text(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await world.prove(world.item())
        path = "/v1/accounts/me/statements/2023-11"
        running = await world.good("GET", path, OWNER)
        world.clock.time += 40 * 86_400
        first = await world.good("GET", path, OWNER)
        world.clock.time += 86_400
        await world.reserve(POINT)
        await world.prove(world.item())
        assert await world.good("GET", path, OWNER) == first != running
        await world.restart()
        for token in (OWNER, OPERATOR):
            account = "owner" if token == OPERATOR else "me"
            assert await world.good("GET", f"/v1/accounts/{account}/statements/2023-11", token) == first
        for form, media_type in (("csv", "text/csv"), ("html", "text/html")):
            answer = await world.call("GET", f"{path}?format={form}&lang=zh", OWNER)
            assert answer.headers["Content-Type"] == f"{media_type}; charset=utf-8"
            assert first in answer.body
            assert f"fallow-owner-2023-11.{form}" in answer.headers["Content-Disposition"]
        page = await world.call("GET", f"{path}?format=html", OWNER, headers={"Accept-Language": "zh-CN,en;q=0.5"})
        assert 'lang="zh"' in page.body.decode()
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
        for query in ("format=pdf", "format=html&lang=xx"):
            assert (await world.call("GET", f"{path}?{query}", OWNER)).status == 400
        months = await world.good("GET", "/v1/accounts/me/statements", OWNER)
        assert months == [{"month": "2023-11", "complete": True}, {"month": "2023-12", "complete": False}]
        assert await world.good("GET", "/v1/accounts/me/statements", OTHER) == []
        assert (await world.call("GET", "/v1/accounts/owner/statements", PUBLISHER)).status == 403
        assert (await world.call("GET", "/v1/accounts/nobody/statements", OPERATOR)).status == 404
        signed = verify(first, Kind.STATEMENT, Statement, world.keys.public_keys().get).value
        assert signed.complete

    in_world(tmp_path, script)


def test_a_settlement_says_what_it_would_have_been_otherwise(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        legacy, partly, wholly = (
            world.ticket(None, max_bytes=GIB),
            world.ticket(max_bytes=GIB),
            world.ticket(max_bytes=GIB),
        )
        await world.prove(
            world.item(legacy, claimed=GIB),
            world.item(partly, claimed=GIB, confirmed=GIB // 2),
            world.item(wholly, claimed=GIB, confirmed=GIB),
        )

        async def settled(jti: str) -> Any:
            found = await world.good("GET", f"/v1/settlements/{jti}", OWNER)
            assert [one["if"] for one in found["not_told"]] == ["reachable-port"]
            assert all(one["why"] for one in found["not_told"])
            return found

        unsigned = await settled(legacy.jti)
        more = (POINT - unsigned["micro_points"]) * 1000 // unsigned["micro_points"]
        told = {"if": "countersigned", "micro_points": POINT, "more_permille": more}
        assert unsigned["otherwise"] == [told]
        told = {"if": "all-confirmed", "micro_points": POINT, "more_permille": 1000}
        assert (await settled(partly.jti))["otherwise"] == [told]
        assert (await settled(wholly.jti))["otherwise"] == []

    in_world(tmp_path, script)


@given(
    st.sampled_from(["legacy", "countersigned"]), st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 10_000)
)
def test_what_would_have_been_is_the_formula_with_one_input_changed(
    tier: str, paid: int, more: int, weight: int
) -> None:
    factors = Factors(paid, POINT, 1000, 900, weight)
    for told in counterfactuals(tier, factors, paid + more, TARIFF):
        if told["if"] == "countersigned":
            expected = Factors(paid, POINT, 1000, 900, 1000).micro_points()
        else:
            expected = Factors(paid + more, POINT, 1000, 900, weight).micro_points()
        assert told["micro_points"] == expected != factors.micro_points()
        assert ("more_permille" in told) == (expected > factors.micro_points() > 0)
        assert ("less_permille" in told) == (expected < factors.micro_points())
