"""Port M: what the phone app of an owner does, from Python."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import aiohttp
from fallow_wire.fields import boolean, device_id, encode, integer, one_of, record, text
from fallow_wire.lan import LAN_PORT, STATES, TERMS_VERSION, Activation, Consent, Limits, Pause, SpeedtestRequest

from .errors import ApiError, BadAnswer, Unreachable
from .transport import Api, problem_of, read_bounded, reason_of

EVENT_BYTES_MAX = 1024 * 1024
"""One status event; the largest, with many sessions, is some ten KiB."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """``GET /v1/device``: nothing private."""

    device_id: Annotated[str, device_id()]
    name: Annotated[str, text(128)]
    model: Annotated[str, text(128)]
    version: Annotated[str, text(64)]
    state: Annotated[str, one_of(*STATES)]
    setup_code_required: Annotated[bool, boolean()] = True
    terms_version: Annotated[str, text(16)] = TERMS_VERSION


@dataclass(frozen=True, slots=True)
class Activated:
    """The device goes on in the background; ``GET /v1/activation`` tells how it went."""

    state: Annotated[str, one_of(*STATES)]
    lan_token: Annotated[str, text(128, 8)]


@dataclass(frozen=True, slots=True)
class LanToken:
    lan_token: Annotated[str, text(128, 8)]


@dataclass(frozen=True, slots=True)
class ActivationProblem:
    type: Annotated[str, text(128)]
    title: Annotated[str, text(1024)] = ""
    detail: Annotated[str, text(4096)] = ""
    remedy: Annotated[str, text(4096)] = ""


@dataclass(frozen=True, slots=True)
class ActivationState:
    """``error`` tells why the last activation failed."""

    state: Annotated[str, one_of(*STATES)]
    error: Annotated[ActivationProblem | None, record(ActivationProblem)] = None


@dataclass(frozen=True, slots=True)
class Redemption:
    """``state``: reserved, fulfilled, voided or unknown. ``code``: a voucher, where the reward is one. ``reason``: what
    its provider said."""

    id: Annotated[str, text(64, 1)]
    reward: Annotated[str, text(64, 1)]
    micro_points: Annotated[int, integer()]
    state: Annotated[str, text(32, 1)]
    code: Annotated[str | None, text(512)] = None
    reason: Annotated[str | None, text(256)] = None


def device_url(address: str) -> str:
    """The base URL of a device given as URL, host, or host and port."""
    if "://" in address:
        return address.rstrip("/")
    if address.count(":") > 1 and not address.startswith("["):
        return f"http://[{address}]:{LAN_PORT}"
    has_port = address.rpartition("]")[2].count(":") == 1
    return f"http://{address}" if has_port else f"http://{address}:{LAN_PORT}"


async def _events(response: aiohttp.ClientResponse, url: str) -> AsyncIterator[bytes]:
    """The ``data`` of each event (HTML Living Standard, 9.2); its other fields are not used here.

    :raises BadAnswer: for an event over the limit.
    """
    rest, data = b"", b""
    async for piece in response.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                data += line[5:].strip()
            elif not line.strip() and data:
                yield data
                data = b""
        if len(data) + len(rest) > EVENT_BYTES_MAX:
            raise BadAnswer(url, "an event larger than its limit")


class LanDevice(Api):
    """A device on this LAN.

    :param address: URL, host, or host and port; the port defaults to 32556.
    :param lan_token: from :meth:`activate` or :meth:`new_lan_token`.
    """

    def __init__(
        self, address: str, lan_token: str | None = None, *, session: aiohttp.ClientSession | None = None
    ) -> None:
        super().__init__(device_url(address), lan_token, session=session)

    async def info(self) -> DeviceInfo:
        return await self.record(DeviceInfo, "GET", "/v1/device")

    async def activate(
        self,
        scheduler: str,
        claim_token: str,
        setup_code: str,
        *,
        accept_terms_version: str,
        limits: Limits | None = None,
    ) -> Activated:
        """Bind the device to the owner of ``claim_token``; keeps the lan token for further calls.

        :param accept_terms_version: the owner has read and accepted these terms.
        """
        consent = Consent(accept_terms_version, True)
        activation = Activation(scheduler, claim_token, setup_code, consent, limits)
        activated = await self.record(Activated, "POST", "/v1/activation", encode(activation))
        self.token = activated.lan_token
        return activated

    async def activation(self) -> ActivationState:
        return await self.record(ActivationState, "GET", "/v1/activation")

    async def leave(self) -> dict[str, Any]:
        """Drain, hand over the last proofs, forget owner and content."""
        return await self.mapping("DELETE", "/v1/activation")

    async def new_lan_token(self, setup_code: str) -> str:
        """A token for a further phone of the same home; kept for further calls."""
        token = (await self.record(LanToken, "POST", "/v1/lan-tokens", {"setup_code": setup_code})).lan_token
        self.token = token
        return token

    async def limits(self) -> Limits:
        return await self.record(Limits, "GET", "/v1/limits")

    async def set_limits(self, changes: dict[str, Any]) -> Limits:
        """:param changes: members of :class:`~fallow_wire.lan.Limits`; None clears one."""
        return await self.record(Limits, "PATCH", "/v1/limits", changes)

    async def pause(self, for_s: int | None = None) -> dict[str, Any]:
        return await self.mapping("POST", "/v1/pause", encode(Pause(for_s)))

    async def resume(self) -> dict[str, Any]:
        return await self.mapping("POST", "/v1/resume", {})

    async def start_speedtest(self, *, insist: bool = False) -> None:
        """Its course and result are in :meth:`status`, as ``speedtest``. ``insist``: although it may cost money."""
        await self.mapping("POST", "/v1/speedtest", encode(SpeedtestRequest(insist)))

    async def status(self) -> dict[str, Any]:
        return await self.mapping("GET", "/v1/status")

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Statuses as they come, about two a second, until the device closes."""
        url = self.base_url + "/v1/events"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=30)
        try:
            async with self.session.get(
                url, headers=self.headers({"Accept": "text/event-stream"}), timeout=timeout
            ) as response:
                if response.status != 200:
                    body = await read_bounded(response, EVENT_BYTES_MAX, url)
                    raise ApiError(problem_of(response.status, response.reason or "", body), url)
                async for data in _events(response, url):
                    yield json.loads(data)
        except ValueError as error:
            raise BadAnswer(url, str(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(self.base_url, reason_of(error)) from error

    async def points(self) -> dict[str, Any]:
        """``held, vested, redeeming, redeemed`` in µp, ``age_s`` and ``entries``."""
        return await self.mapping("GET", "/v1/points")

    async def rewards(self) -> list[Any]:
        return await self.listing("/v1/rewards", "rewards")

    async def redemptions(self) -> list[Any]:
        """The newest, newest first."""
        return await self.listing("/v1/redemptions", "redemptions")

    async def redeem(self, reward: str, idempotency_key: str | None = None) -> Redemption:
        """:param idempotency_key: the same key again gives the same redemption; a new one is made where None."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return await self.record(Redemption, "POST", "/v1/redemptions", {"reward": reward}, headers=headers)
