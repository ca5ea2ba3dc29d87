"""The ledger's API. Amounts are micro-points (µp)."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fallow_wire.batches import Head
from fallow_wire.errors import PeerError
from fallow_wire.jws import Kind, verify
from fallow_wire.keys import JwkSet, PublicKey
from fallow_wire.statements import Statement
from fallow_wire.tariff import Tariff

from .errors import BadAnswer
from .transport import Api, path_of

T = TypeVar("T")


DIFF_ASKED_AGAIN_S = 0.5
MINE = "me"
"""Stands for the caller's own account where an account's id is wanted."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


def new_key() -> dict[str, str]:
    """An ``Idempotency-Key`` header for one intention of the caller."""
    return {"Idempotency-Key": str(uuid.uuid4())}


class Ledger(Api):
    """:param token: an account's; what is for anyone needs none."""

    async def keys(self) -> dict[str, PublicKey]:
        found = await self.record(JwkSet, "GET", "/.well-known/jwks.json")
        keys = [PublicKey.from_jwk(jwk) for jwk in found.keys]
        return {key.thumbprint(): key for key in keys}

    async def account(self, account_id: str) -> dict[str, Any]:
        """``held, vested, redeeming, redeemed``; of a publisher ``escrow, reserved, spent``."""
        return await self.mapping("GET", path_of("v1", "accounts", account_id))

    async def entries(self, account_id: str, *, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """Oldest first, those with ``seq`` beyond ``after``."""
        params = {"after": str(after), "limit": str(limit)}
        return await self.listing(path_of("v1", "accounts", account_id, "entries"), "entries", params=params)

    async def statement(self, account_id: str, month: str) -> Statement:
        """A month's movements of an account, its signature verified. :param month: such as ``2025-01``."""
        path = path_of("v1", "accounts", account_id, "statements", month)
        return await self._verified(path, Kind.STATEMENT, Statement)

    async def months(self, account_id: str = MINE) -> list[dict[str, Any]]:
        """The months of which there is a statement: ``month, complete``."""
        return await self.listing(path_of("v1", "accounts", account_id, "statements"), "statements")

    async def printed_statement(self, account_id: str, month: str, form: str, language: str) -> str:
        """The statement as ``csv`` or ``html``; the signed one in it is verified.

        :raises BadAnswer: it holds no statement of this month that the ledger signed.
        """
        path = path_of("v1", "accounts", account_id, "statements", month)
        text = str(await self.call("GET", path, params={"format": form, "lang": language}))
        tokens = _TOKEN.findall(text)
        if not tokens:
            raise BadAnswer(self.base_url + path, "it holds no signed statement")
        try:
            statement = verify(max(tokens, key=len), Kind.STATEMENT, Statement, (await self.keys()).get).value
        except PeerError as error:
            raise BadAnswer(self.base_url + path, error.detail) from error
        if statement.month != month or account_id not in (MINE, statement.account):
            raise BadAnswer(self.base_url + path, "it is another statement")
        return text

    async def settlement(self, jti: str) -> dict[str, Any]:
        """Every input, factor and the result."""
        return await self.mapping("GET", path_of("v1", "settlements", jti))

    async def tariff(self, tariff_id: str | None = None) -> tuple[str, Tariff]:
        """A tariff's id and its verified content; the one in force where no id is given.

        :raises BadAnswer: it is not signed by the ledger, or not the one that was asked for.
        """
        path = path_of("v1", "tariffs", tariff_id or "current")
        answer = await self.mapping("GET", path)
        keys = await self.keys()
        try:
            tariff = verify(str(answer.get("tariff", "")), Kind.TARIFF, Tariff, keys.get).value
        except PeerError as error:
            raise BadAnswer(self.base_url + path, error.detail) from error
        if tariff.tariff_id() != answer.get("id") or tariff_id not in (None, answer["id"]):
            raise BadAnswer(self.base_url + path, "the tariff does not have the id that it is given under")
        return tariff.tariff_id(), tariff

    async def tariffs(self) -> list[dict[str, Any]]:
        """All tariffs, newest first: ``id, version, valid_from, tariff``."""
        found: list[dict[str, Any]] = []
        for _ in range(self._config.pages_max):
            params = {"before": str(found[-1].get("version", 0))} if found else None
            page = await self.listing("/v1/tariffs", "tariffs", params=params)
            if not page:
                break
            found += page
        return found

    async def add_tariff(self, tariff: dict[str, Any]) -> dict[str, Any]:
        """:param tariff: ``valid_from, rates, weights, legacy_caps, trust?, quality?, scarcity?``; it applies to later
        service only."""
        return await self.mapping("POST", "/v1/tariffs", tariff)

    async def tariff_diff(
        self, tariff: dict[str, Any], progress: Callable[[int], None] = lambda permille: None
    ) -> dict[str, Any]:
        """What ``tariff`` would have paid last week: sums, and ``owners`` with theirs, all pages together.

        :param progress: hears how many ‰ the ledger has gone through, while it does.
        """
        found: dict[str, Any] = {"owners": []}
        pages, params = 0, None
        while pages < self._config.pages_max:
            answer = await self.mapping("POST", "/v1/tariffs/diff", tariff, params=params)
            if type(answer.get("done_permille")) is int:
                progress(answer["done_permille"])  # the ledger itself waits some seconds before it says so
                await asyncio.sleep(DIFF_ASKED_AGAIN_S)
                continue
            if not isinstance(answer.get("owners"), list):
                raise BadAnswer(f"{self.base_url}/v1/tariffs/diff", "a list of owners is wanted")
            found = {**answer, "owners": found["owners"] + answer["owners"]}
            if "next" not in answer:
                break
            pages, params = pages + 1, {"after": str(found.pop("next"))}
        return found

    async def head(self) -> Head:
        """The head of the hash chain, its signature verified."""
        return await self._verified("/v1/head", Kind.HEAD, Head)

    async def _verified(self, path: str, kind: Kind, cls: type[T]) -> T:
        token = await self.call("GET", path)
        keys = await self.keys()
        try:
            return verify(str(token), kind, cls, keys.get).value
        except PeerError as error:
            raise BadAnswer(self.base_url + path, error.detail) from error

    async def deposit(self, publisher: str, micro_points: int, key: dict[str, str] | None = None) -> Any:
        body = {"publisher": publisher, "micro_points": micro_points}
        return await self.call("POST", "/v1/deposits", body, headers=key or new_key())

    async def rewards(self) -> list[dict[str, Any]]:
        return await self.listing("/v1/rewards", "rewards")

    async def add_reward(
        self,
        title: str,
        micro_points: int,
        stock: int | None = None,
        *,
        codes: list[str] | None = None,
        webhook: str | None = None,
        terms: str | None = None,
    ) -> dict[str, Any]:
        """:param codes: vouchers; they are the stock. :param webhook: the provider's address; its secret is in the
        answer, once."""
        body = {
            "title": title,
            "micro_points": micro_points,
            "stock": stock,
            "codes": codes,
            "webhook": webhook,
            "terms": terms,
        }
        given = {name: value for name, value in body.items() if value is not None}
        return await self.mapping("POST", "/v1/rewards", given)

    async def add_stock(self, reward: str, *, codes: list[str] | None = None, more: int | None = None) -> Any:
        body: dict[str, Any] = {"more": more} if codes is None else {"codes": codes}
        return await self.mapping("POST", path_of("v1", "rewards", reward, "stock"), body)

    async def withdraw_reward(self, reward: str) -> None:
        await self.call("DELETE", path_of("v1", "rewards", reward))

    async def redeem(self, reward: str, key: dict[str, str] | None = None) -> dict[str, Any]:
        return await self.mapping("POST", "/v1/redemptions", {"reward": reward}, headers=key or new_key())

    async def redemptions(self) -> list[dict[str, Any]]:
        return await self.pages("/v1/redemptions", "redemptions")

    async def resolve_redemption(self, redemption_id: str, outcome: str) -> Any:
        """:param outcome: ``fulfilled``, ``voided`` or ``unknown``."""
        return await self.call("POST", path_of("v1", "redemptions", redemption_id, "resolution"), {"outcome": outcome})

    async def reviews(self, state: str | None = None) -> list[dict[str, Any]]:
        """What looks wrong about devices, oldest first: an owner's own, an operator all. :param state: ``open`` …"""
        return await self.pages("/v1/reviews" if state is None else f"/v1/reviews?state={state}", "reviews")

    async def review(self, review_id: str) -> dict[str, Any]:
        """One, with ``held``: µp that would be taken back now."""
        return await self.mapping("GET", path_of("v1", "reviews", review_id))

    async def decide_review(self, review_id: str, outcome: str) -> dict[str, Any]:
        """:param outcome: ``cleared`` or ``upheld``. :returns: the review, with the ``micro_points`` taken back."""
        return await self.mapping("POST", path_of("v1", "reviews", review_id, "resolution"), {"outcome": outcome})

    async def claw_back(self, jti: str, reason: str, key: dict[str, str] | None = None) -> dict[str, Any]:
        """Take back what is still held of a settlement."""
        path = path_of("v1", "settlements", jti, "clawback")
        return await self.mapping("POST", path, {"reason": reason}, headers=key or new_key())

    async def audits(self, device: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """What canaries found, newest first: ``device, jti, bytes, agreed, reason, at``."""
        params = {"limit": str(limit)} if device is None else {"limit": str(limit), "device": device}
        return await self.listing("/v1/audits", "audits", params=params)

    async def add_audit(self, audit: dict[str, Any]) -> dict[str, Any]:
        """:param audit: ``device, jti, bytes, agreed, reason``; the first one of a ticket stands."""
        return await self.mapping("POST", "/v1/audits", audit)

    async def export(self, file: Path) -> None:
        """The books, written to ``file`` whole or not at all; compressed where its name ends in ``.gz``."""
        await self.download("/v1/export", file, compressed=file.suffix == ".gz")

    async def reports(self, limit: int = 30) -> list[dict[str, Any]]:
        """The daily reports, newest first; ``sound`` is false where the books did not reconcile."""
        return await self.listing("/v1/reports", "reports", params={"limit": str(limit)})

    async def restores(self) -> dict[str, Any]:
        """``restores[]`` from backups, newest first, and ``gaps[]``: batches that devices had acknowledged."""
        return await self.mapping("GET", "/v1/restores")

    async def review_restore(self, at: int) -> dict[str, Any]:
        """Say that what the restore of ``at`` (Unix seconds) lost was looked at: redemptions go on."""
        return await self.mapping("POST", path_of("v1", "restores", str(at), "review"))

    async def reconciliation(self) -> dict[str, Any]:
        """``sum, accounts, settlements, booked, recomputed, differences``."""
        return await self.mapping("GET", "/v1/reconciliation")
