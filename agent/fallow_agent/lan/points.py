"""Points, rewards and redemptions: asked of the ledger in the owner's name, with the device's ledger token."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from fallow_wire.http import Problem

from ..clock import Clock
from ..store import Settings
from .middleware import ApiProblem

LEDGER_S_MAX = 10.0
LEDGER_BODY_BYTES_MAX = 256 * 1024
ENTRIES_SHOWN = 50
ENTRIES_A_PAGE = 200
REDEMPTIONS_SHOWN = 50
DAYS_SHOWN = 31
PAGES_A_CALL = 5
"""A long history is caught up with over several calls, so that one call stays short."""

CACHE = "points"
_BALANCES = ("held", "vested", "redeeming", "redeemed")


@dataclass(frozen=True, slots=True)
class LedgerAccess:
    """Where the ledger is, whose account it is, and the device's token for it."""

    url: str
    owner: str
    token: str


class Points:
    """What the ledger says about the owner; the last answer is kept for when the ledger is away."""

    def __init__(
        self,
        access: Callable[[], LedgerAccess | None],
        http: Callable[[], aiohttp.ClientSession],
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._access = access
        self._http = http
        self._settings = settings
        self._clock = clock

    async def points(self, offset_min: int = 0) -> dict[str, Any]:
        """Balances, the newest entries, and what was earned on the last days, in micro-points, with the age of the
        answer in seconds.

        :param offset_min: of the reader's clock to UTC, for what counts as a day.
        """
        access = self._need()
        cache: dict[str, Any] = self._settings.get(CACHE) or {}
        if cache.get("owner") != access.owner:
            cache = {}
        try:
            fresh = await self._fetch(access, cache, offset_min)
        except ApiProblem as error:
            if "at" not in cache or error.problem.fault != "upstream":
                raise
        else:
            if fresh | {"at": 0} != cache | {"at": 0} or fresh["at"] - cache["at"] >= 3600:
                # Written only when it says something new, and hourly: flash wears.
                self._settings.set(CACHE, fresh)
            cache = fresh
        age_s = max(0, self._clock.now() - cache["at"])
        shown = {name: cache[name] for name in (*_BALANCES, "entries")}
        return {**shown, "days": cache.get("days", []), "age_s": age_s}

    async def deliveries(self, day: str, offset_min: int, after: int) -> tuple[int, Any]:
        """What was delivered on a day, with the points of each."""
        access = self._need()
        path = f"/v1/accounts/{access.owner}/days/{day}?offset_min={offset_min}&after={after}"
        return await self._call(access, "GET", path)

    async def settlement(self, jti: str) -> tuple[int, Any]:
        """How the points of one delivery came about."""
        return await self._call(self._need(), "GET", f"/v1/settlements/{jti}")

    async def rewards(self) -> tuple[int, Any]:
        access = self._need()
        return await self._call(access, "GET", "/v1/rewards")

    async def redemptions(self) -> tuple[int, Any]:
        """The newest redemptions, newest first, with what became of them."""
        access = self._need()
        return await self._call(access, "GET", f"/v1/redemptions?order=newest&limit={REDEMPTIONS_SHOWN}")

    async def redeem(self, body: dict[str, Any], idempotency_key: str) -> tuple[int, Any]:
        """The ledger's answer as it is: status and JSON. A repeated key is answered the same by the ledger."""
        access = self._need()
        return await self._call(access, "POST", "/v1/redemptions", body, {"Idempotency-Key": idempotency_key})

    def forget(self) -> None:
        self._settings.delete(CACHE)

    def _need(self) -> LedgerAccess:
        access = self._access()
        if access is None:
            raise ApiProblem(Problem(409, "not-active", "The device has no owner", remedy="Activate the device first."))
        return access

    async def _fetch(self, access: LedgerAccess, cache: dict[str, Any], offset_min: int) -> dict[str, Any]:
        account = await self._get(access, f"/v1/accounts/{access.owner}")
        entries: list[Any] = list(cache.get("entries", []))
        after = int(cache.get("after", 0))
        for _ in range(PAGES_A_CALL):
            page = await self._get(access, f"/v1/accounts/{access.owner}/entries?after={after}&limit={ENTRIES_A_PAGE}")
            found = page["entries"] if isinstance(page, dict) else page
            entries = [*entries, *found][-ENTRIES_SHOWN:]
            if found:
                after = int(found[-1]["seq"])
            if len(found) < ENTRIES_A_PAGE:
                break
        balances = {name: int(account.get(name, 0)) for name in _BALANCES}
        days = await self._get(access, f"/v1/accounts/{access.owner}/days?offset_min={offset_min}&limit={DAYS_SHOWN}")
        kept = {"owner": access.owner, "after": after, "entries": entries, "days": days, "at": self._clock.now()}
        return {**balances, **kept}

    async def _get(self, access: LedgerAccess, path: str) -> Any:
        status, value = await self._call(access, "GET", path)
        if status != 200:
            raise ApiProblem(_away(f"it answered {status} for {path.partition('?')[0]}"))
        return value

    async def _call(
        self,
        access: LedgerAccess,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        try:
            async with self._http().request(
                method,
                access.url.rstrip("/") + path,
                json=body,
                headers={"Authorization": f"Bearer {access.token}", **(headers or {})},
                timeout=aiohttp.ClientTimeout(total=LEDGER_S_MAX),
                allow_redirects=False,
            ) as response:
                data = await response.content.read(LEDGER_BODY_BYTES_MAX + 1)
                while not response.content.at_eof() and len(data) <= LEDGER_BODY_BYTES_MAX:
                    data += await response.content.read(LEDGER_BODY_BYTES_MAX + 1 - len(data))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ApiProblem(_away(str(error) or type(error).__name__)) from None
        if response.status >= 500 or len(data) > LEDGER_BODY_BYTES_MAX:
            raise ApiProblem(_away(f"it answered {response.status} with {len(data)} bytes"))
        try:
            return response.status, json.loads(data)
        except ValueError:
            raise ApiProblem(_away("it did not answer JSON")) from None


def _away(detail: str) -> Problem:
    return Problem(
        503,
        "ledger-away",
        "The ledger cannot be asked now",
        detail,
        "upstream",
        "Try again later; no point is lost meanwhile.",
    )
