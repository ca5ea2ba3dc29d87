"""Commands about points: deposits, redemptions, statements, tariffs, reviews, and whether the books agree."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_world import DEVICE_ID, FakeServer, Fallow, known_device, logged_in
from fallow_client import cli
from fallow_client.commands.operator import micro_points_of
from fallow_client.commands.output import points
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, sign
from fallow_wire.tariff import LegacyCaps, QualityStep, Tariff, TrustStep
from hypothesis import given
from hypothesis import strategies as st
from support import key


def test_books_that_do_not_reconcile_fail_the_command(
    fallow: Fallow, server: FakeServer, environ: dict[str, str]
) -> None:
    logged_in(environ, server)
    server.json("GET /v1/reconciliation", {"sum": 0, "differences": []})
    assert fallow("operator", "reconcile")[0] == cli.OK
    server.json("GET /v1/reconciliation", {"sum": -1, "differences": []})
    assert fallow("operator", "reconcile")[0] == cli.FAILED


def test_a_deposit_is_told_in_points(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    server.json("POST /v1/deposits", {"id": "1", "micro_points": 10**9, "escrow": 3 * 10**9, "publisher": "pub-1"}, 201)
    out = fallow("operator", "deposit", "pub-1", "1000")[1]
    assert [line.split() for line in out.splitlines()] == [
        ["Publisher", "pub-1"],
        ["Deposited", "1000"],
        ["Escrow", "3000"],
    ]


@given(st.integers(1, 2**53 - 1))
def test_points_are_read_as_they_are_shown(micro_points: int) -> None:
    assert micro_points_of(points(micro_points)) == micro_points


def test_a_lost_answer_is_asked_for_again_under_the_same_key(
    fallow: Fallow, server: FakeServer, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fallow_client.commands import earnings

    monkeypatch.setattr(earnings, "REDEEM_WAITS_S", (0.0, 0.0))
    known_device(environ, server)
    away = {"type": "ledger-away", "title": "The ledger cannot be asked now"}
    server.problem("POST /v1/redemptions", 503, **away)
    code, _, err = fallow("redeem", "r1")
    assert code == cli.FAILED
    keys = [headers["Idempotency-Key"] for call, headers, _ in server.asked if call == "POST /v1/redemptions"]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert f"fallow redeem r1 --key {keys[0]}" in err
    server.json("POST /v1/redemptions", {"id": "x", "reward": "r1", "micro_points": 1, "state": "reserved"}, 201)
    code, out, _ = fallow("redeem", "r1", "--key", keys[0])
    assert code == cli.OK
    assert server.asked[-1][1]["Idempotency-Key"] == keys[0]
    assert "reserved" in out


def test_a_refusal_is_not_asked_again(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    known_device(environ, server)
    server.problem("POST /v1/redemptions", 409, type="out-of-stock", title="This reward is used up")
    code, _, err = fallow("redeem", "r1", LANG="zh_CN.UTF-8")
    assert code == cli.REFUSED
    assert "该奖励已兑完" in err
    assert server.calls().count("POST /v1/redemptions") == 1


def test_redemptions_show_their_codes(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    known_device(environ, server)
    redeemed = {"id": "x", "micro_points": 2_000_000, "state": "fulfilled", "code": "COFFEE", "created_at": 1}
    server.json("GET /v1/redemptions", [redeemed])
    _, out, _ = fallow("redemptions")
    assert "COFFEE" in out
    assert "已兑现" in fallow("redemptions", LANG="zh_CN.UTF-8")[1]


def statement_of(server: FakeServer, signer: Any, published: Any) -> str:
    from fallow_wire.batches import Head
    from fallow_wire.fields import encode
    from fallow_wire.jws import Kind, sign
    from fallow_wire.keys import JwkSet
    from fallow_wire.statements import Statement

    statement = Statement("own-1", "2026-10", 1, 2, True, {"held": 1}, {"held": 1}, (), (), Head(1, "a" * 64, 1), 3)
    token = sign(Kind.STATEMENT, statement, signer)
    server.json("GET /.well-known/jwks.json", encode(JwkSet((published.public.jwk(with_kid=True),))))
    server.answers["GET /v1/accounts/me/statements/2026-10"] = (200, "text/html", f"<p>{token}</p>".encode())
    return token


def test_a_statement_is_written_only_with_the_ledgers_signature(
    fallow: Fallow, server: FakeServer, environ: dict[str, str], tmp_path: Path
) -> None:
    from support import key

    logged_in(environ, server)
    token = statement_of(server, key(1), key(1))
    file = tmp_path / "october.html"
    code, out, _ = fallow("statements", "2026-10", "--format", "html", "-o", str(file))
    assert (code, file.read_text()) == (cli.OK, f"<p>{token}</p>")
    assert "verified" in out
    code, _, err = fallow("statements", "2026-10", "--format", "html", "-o", str(tmp_path / "none" / "x"))
    assert (code, "-o" in err) == (cli.FAILED, True)
    for text in (b"<p>nothing signed</p>", token.replace("a", "b").encode()):
        server.answers["GET /v1/accounts/me/statements/2026-10"] = (200, "text/html", text)
        code, _, err = fallow("statements", "2026-10", "--format", "html")
        assert code == cli.FAILED
    statement_of(server, key(2), key(1))
    assert fallow("statements", "2026-10", "--format", "html")[0] == cli.FAILED
    server.json("GET /v1/accounts/me/statements", [{"month": "2026-10", "complete": True}])
    assert "2026-10" in fallow("statements")[1]


def test_a_settlement_is_told_with_what_it_would_have_been(
    fallow: Fallow, server: FakeServer, environ: dict[str, str]
) -> None:
    logged_in(environ, server)
    factors = {"bytes": 2**30, "rate": 10**6, "quality": 1000, "scarcity": 1000, "weight": 500}
    other = {"if": "countersigned", "micro_points": 10**6, "more_permille": 1000}
    server.json(
        "GET /v1/settlements/j",
        {"booked_at": 1, "device": DEVICE_ID, "service": "object", "tier": "legacy", "factors": factors,
         "micro_points": 500_000, "otherwise": [other], "not_told": [], "matures_at": 2, "late_at": 3,
         "reversed": {"micro_points": 250_000, "reason": "made up", "at": 2}},
    )  # fmt: skip
    _, out, _ = fallow("settlement", "j")
    assert "1 (+100.0 %)" in out
    assert "0.25: made up" in out
    assert "若下载者签名回执" in fallow("settlement", "j", LANG="zh_CN.UTF-8")[1]


def test_codes_come_from_a_file(fallow: Fallow, server: FakeServer, environ: dict[str, str], tmp_path: Path) -> None:
    logged_in(environ, server)
    server.json("POST /v1/rewards", {"id": "r"}, 201)
    server.json("POST /v1/rewards/r/stock", {"id": "r", "stock": 4})
    codes, empty = tmp_path / "codes", tmp_path / "empty"
    codes.write_text("A\n\n B \n")
    empty.write_text("\n")
    assert fallow("operator", "rewards", "add", "Coffee", "2", "--codes", str(codes), "--terms", "t")[0] == cli.OK
    assert json.loads(server.asked[-1][2]) == {
        "title": "Coffee",
        "micro_points": 2 * 10**6,
        "codes": ["A", "B"],
        "terms": "t",
    }
    assert fallow("operator", "rewards", "stock", "r", "--codes", str(codes))[0] == cli.OK
    assert json.loads(server.asked[-1][2]) == {"codes": ["A", "B"]}
    assert fallow("operator", "rewards", "stock", "r", "--codes", str(empty))[0] == cli.FAILED
    assert fallow("operator", "rewards", "stock", "r")[0] == cli.USAGE


def test_reports_watch_the_books(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    yesterday = int(time.time()) // 86_400 - 1
    report = {"day": yesterday, "sound": True, "supply": 10**9, "places": {"escrow": 10**9}, "unaccounted": 0,
              "difference_count": 0, "redemptions": {"reserved": 0, "unknown": 1, "for_operator": 0}}  # fmt: skip
    for reports, code, said in (
        ([report], cli.OK, ""),
        ([report | {"sound": False, "unaccounted": 7}, report], cli.FAILED, "do not reconcile"),
        ([report | {"day": yesterday - 5}], cli.FAILED, "is old"),
        ([], cli.FAILED, "no report yet"),
    ):
        server.json("GET /v1/reports", reports)
        found, out, err = fallow("operator", "reports")
        assert (found, said in err) == (code, True)
        assert bool(reports) == ("1000" in out)
        assert fallow("operator", "reports", "--json")[0] == code


def test_restores_are_listed_and_reviewed(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    restore = {"at": 1_800_000_000, "backup_at": 1_799_990_000, "entries": 9, "hash": "a" * 64}
    gap = {"device": DEVICE_ID, "expected": 3, "seen": 7, "noted_at": 1_800_000_001}
    server.json("GET /v1/restores", {"restores": [restore], "gaps": [gap]})
    out = fallow("operator", "restores")[1]
    assert "1800000000" in out
    assert DEVICE_ID in out
    server.json("POST /v1/restores/1800000000/review", restore | {"reviewed_at": 1_800_000_002})
    assert fallow("operator", "restores", "reviewed")[0] == cli.OK
    assert fallow("operator", "restores", "reviewed", "1800000000")[0] == cli.OK
    server.json("GET /v1/restores", {"restores": [], "gaps": []})
    assert fallow("operator", "restores", "reviewed")[0] == cli.FAILED


DIFF = {
    "from_at": 0, "until_at": 604800, "settlements": 30, "paid": 3_000_000, "would": 3_500_000, "capped": 0,
    "owner_count": 2,
}  # fmt: skip


def test_a_proposed_tariff_is_compared_page_by_page(
    fallow: Fallow, server: FakeServer, environ: dict[str, str], tmp_path: Path
) -> None:
    logged_in(environ, server)
    file = tmp_path / "spring.json"
    file.write_text('{"valid_from": 9, "rates": {}}')
    first = {"owner": "a", "settlements": 10, "paid": 1_000_000, "would": 1_100_000, "more_permille": 100}
    second = {"owner": "b", "settlements": 20, "paid": 2_000_000, "would": 2_400_000, "more_permille": 200}
    pages = [
        (202, {"done_permille": 500}),
        (200, {**DIFF, "owners": [first], "next": "a"}),
        (200, {**DIFF, "owners": [second]}),
    ]
    server.answers["POST /v1/tariffs/diff"] = answers = Pages(pages)  # type: ignore[assignment]
    code, out, _ = fallow("operator", "tariff", "diff", str(file))
    assert code == cli.OK
    assert answers.left == []
    assert "3.5 (+16.7 %)" in out
    assert [line.split()[0] for line in out.splitlines()[-2:]] == ["b", "a"], "the largest change first"
    assert {json.loads(body)["valid_from"] for _, _, body in server.asked if b"valid_from" in body} == {9}
    assert "POST /v1/tariffs" not in server.calls(), "nothing is published"
    server.json("POST /v1/tariffs/diff", {**DIFF, "owners": [first, second]})
    told = json.loads(fallow("operator", "tariff", "diff", str(file), "--json")[1])
    assert told["owners"] == [first, second]
    assert "按新费率应得" in fallow("operator", "tariff", "diff", str(file), LANG="zh_CN.UTF-8")[1]


class Pages(tuple[int, str, bytes]):
    """One answer after another."""

    left: list[tuple[int, Any]]

    def __new__(cls, pages: list[tuple[int, Any]]) -> Pages:
        made = super().__new__(cls, (0, "", b""))
        made.left = list(pages)
        return made

    def __iter__(self) -> Iterator[Any]:
        status, value = self.left.pop(0)
        return iter((status, "application/json", json.dumps(value).encode()))


def test_tariffs_are_published_and_listed(
    fallow: Fallow, server: FakeServer, environ: dict[str, str], tmp_path: Path
) -> None:
    logged_in(environ, server)
    file, broken = tmp_path / "spring.json", tmp_path / "broken.json"
    file.write_text('{"valid_from": 9}')
    server.json("POST /v1/tariffs", {"id": "f" * 64, "tariff": {"version": 2}}, 201)
    assert fallow("operator", "tariff", "publish", str(file))[0] == cli.OK
    assert json.loads(server.asked[-1][2]) == {"valid_from": 9}
    for text in ("{", "[1]"):
        broken.write_text(text)
        asked = len(server.asked)
        assert fallow("operator", "tariff", "publish", str(broken))[0] == cli.FAILED
        assert len(server.asked) == asked
    server.problem("POST /v1/tariffs", 409, type="not-prospective", title="A tariff can only be made for the future")
    code, _, err = fallow("operator", "tariff", "publish", str(file), LANG="zh_CN.UTF-8")
    assert code == cli.REFUSED
    assert "费率只能对将来生效" in err
    found = [{"id": "f" * 64, "version": 2, "valid_from": 9, "tariff": "x"}]
    server.answers["GET /v1/tariffs"] = Pages([(200, found), (200, [])])
    assert "f" * 64 in fallow("operator", "tariff", "list")[1]


def test_a_tariff_is_shown_with_every_factor(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    hours = (1000,) * 18 + (1250,) * 4 + (1000,) * 2
    quality = (QualityStep(500, 1000), QualityStep(0, 800))
    caps, trust = LegacyCaps(2**30, 2**40), (TrustStep(5, 500),)
    tariff = Tariff(2, 9, {"object": 10**6}, {"legacy": 500}, caps, trust, quality, {"DE": hours, "*": (900,) * 24})
    signer = key(7)
    keys = {"keys": [encode(signer.public.jwk(with_kid=True))]}
    server.json("GET /.well-known/jwks.json", keys)
    server.json("GET /v1/tariffs/current", {"id": tariff.tariff_id(), "tariff": sign(Kind.TARIFF, tariff, signer)})
    _, out, _ = fallow("operator", "tariff", "show")
    assert "00–18 1000 ‰, 18–22 1250 ‰, 22–24 1000 ‰ (UTC)" in out
    for told in ("From 5 agreeing audits on", "From 50 % of the promised rate on", "Scarcity: elsewhere", "1.0 GiB"):
        assert told in out
    assert "达到承诺速率的 50 % 起" in fallow("operator", "tariff", "show", LANG="zh_CN.UTF-8")[1]


REVIEW = {
    "id": "r1", "owner": "owner-1", "device": DEVICE_ID, "reason": "unlikely-pair", "state": "open", "at": 86400,
    "changed_at": 2,
    "detail": "one consumer received 40 of its 40 deliveries from the devices of this line, where the other consumers "
    "of the same objects received 50.0% of theirs",
}  # fmt: skip


def test_reviews_are_read_and_decided(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    server.json("GET /v1/reviews", [REVIEW])
    server.json("GET /v1/reviews/r1", {**REVIEW, "held": 1_500_000})
    server.json("POST /v1/reviews/r1/resolution", {**REVIEW, "state": "upheld", "micro_points": 1_500_000})
    _, out, _ = fallow("operator", "reviews")
    assert "1970-01-02" in out
    assert "undecided" in out
    _, out, _ = fallow("operator", "reviews", "show", "r1")
    assert "40 of its 40" in out
    assert "1.5" in out
    _, out, _ = fallow("operator", "reviews", "decide", "r1", "upheld")
    assert json.loads(server.asked[-1][2]) == {"outcome": "upheld"}
    assert "upheld" in out
    assert fallow("operator", "reviews", "decide", "r1", "perhaps")[0] == cli.USAGE
    chinese = fallow("reviews", LANG="zh_CN.UTF-8")[1]
    assert "某下载者的交付中有 40 次（共 40 次）" in chinese
    assert "待裁定" in chinese
    server.json("GET /v1/reviews", [])
    assert "Nothing looks wrong." in fallow("reviews")[1]
    assert json.loads(fallow("reviews", "--json")[1]) == []


def test_what_canaries_found_is_told(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    found = {"device": DEVICE_ID, "jti": "j", "bytes": 0, "agreed": False, "reason": "answered 404", "at": 1}
    server.json("GET /v1/audits", [found, found | {"bytes": 2**20, "agreed": True, "reason": ""}])
    _, out, _ = fallow("operator", "audits", "--device", DEVICE_ID)
    assert "answered 404" in out
    assert "1.0 MiB" in out
    assert "应答为 404" in fallow("operator", "audits", LANG="zh_CN.UTF-8")[1]
    assert json.loads(fallow("operator", "audits", "--json")[1])[0] == found


def test_a_settlement_is_clawed_back_with_a_reason(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    taken = {"jti": "j", "micro_points": 250_000, "reason": "made up", "entry_seq": 1, "at": 2}
    server.json("POST /v1/settlements/j/clawback", taken, 201)
    _, out, _ = fallow("operator", "clawback", "j", "made up", "--key", "k")
    assert "0.25" in out
    _, headers, body = server.asked[-1]
    assert (headers["Idempotency-Key"], json.loads(body)) == ("k", {"reason": "made up"})
    title = "Nothing of this settlement is held any more"
    server.problem("POST /v1/settlements/j/clawback", 409, type="already-vested", title=title)
    code, _, err = fallow("operator", "clawback", "j", "x", LANG="zh_CN.UTF-8")
    assert code == cli.REFUSED
    assert "该结算已没有暂时保留的积分" in err
