"""``POST /v1/devices``: prove the device key to the scheduler and be bound to the owner of a claim token."""

from __future__ import annotations

import os

import aiohttp
from fallow_wire.encoding import base64url
from fallow_wire.enrolment import Enrolled, Enrolment
from fallow_wire.errors import FallowError, PeerError
from fallow_wire.fields import decode
from fallow_wire.http import Problem
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import PrivateKey, PublicKey
from fallow_wire.strict import loads_object

TIMEOUT_S = 30
ANSWER_BYTES_MAX = 64 * 1024


class EnrolmentRefused(FallowError):
    """The scheduler said no; trying again with the same claim is of no use."""

    slug = "enrolment-refused"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem


class SchedulerUnreachable(FallowError):
    """No usable answer came; the claim may still be good."""

    slug = "scheduler-unreachable"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(
            503,
            self.slug,
            "The scheduler cannot be reached",
            detail,
            "upstream",
            "Check its address and the internet connection; the device goes on trying.",
        )


async def enrol(
    http: aiohttp.ClientSession,
    scheduler: str,
    key: PrivateKey,
    claim_token: str,
    model: str,
    version: str,
    now: int,
) -> Enrolled:
    """Enrol at the scheduler. May be repeated with the same claim: a lost answer costs nothing.

    :raises EnrolmentRefused: finally. :raises SchedulerUnreachable: for now.
    """
    did = key.public.device_id()
    enrolment = Enrolment(did, key.public.jwk(), claim_token, model, version, now, base64url(os.urandom(18)))
    url = scheduler.rstrip("/") + "/v1/devices"
    try:
        async with http.post(
            url,
            data=sign(Kind.ENROLMENT, enrolment, key, kid=did),
            headers={"Content-Type": "application/jwt"},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        ) as response:
            body = await read_all(response)
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise SchedulerUnreachable(f"{url}: {error or type(error).__name__}") from None
    if status in (200, 201):
        try:
            enrolled = decode(Enrolled, loads_object(body, ANSWER_BYTES_MAX), strict=False)
            for jwk in enrolled.jwks.keys + enrolled.policy.jwks.keys:
                PublicKey.from_jwk(jwk)
        except PeerError as error:
            raise SchedulerUnreachable(f"{url}: not a scheduler's answer: {error.detail}") from None
        if enrolled.device_id != did:
            raise SchedulerUnreachable(f"{url}: the answer is for another device")
        return enrolled
    if 400 <= status < 500 and status not in (408, 425, 429):
        raise EnrolmentRefused(problem_of(status, body))
    raise SchedulerUnreachable(f"{url}: status {status}")


async def read_all(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, which may come in pieces; what is too large is cut, and then refused by its reader."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            break
    return bytes(body)


async def unbind(http: aiohttp.ClientSession, scheduler: str, device_id: str, ledger_token: str) -> None:
    """Tell the scheduler that the device has left its owner, so that another may have it.

    :raises SchedulerUnreachable: it does not know; the owner or the operator can still unbind the device.
    """
    url = f"{scheduler.rstrip('/')}/v1/devices/{device_id}"
    headers = {"Authorization": f"Bearer {ledger_token}"}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with http.delete(url, headers=headers, allow_redirects=False, timeout=timeout) as response:
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise SchedulerUnreachable(f"{url}: {error or type(error).__name__}") from None
    # 401 and 404: it was unbound before, and this is the second try.
    if status not in (200, 204, 401, 404):
        raise SchedulerUnreachable(f"{url}: status {status}")


def problem_of(status: int, body: bytes, slug: str = "enrolment-refused") -> Problem:
    """The problem that a server sent, or one made from its status and ``slug``."""
    try:
        members = loads_object(body, ANSWER_BYTES_MAX)
    except PeerError:
        members = {}

    def text(name: str, otherwise: str) -> str:
        value = members.get(name)
        return value[:500] if isinstance(value, str) else otherwise

    title = text("title", "The scheduler refused the device")
    # What the scheduler calls its own fault is upstream for the owner; what it calls its caller's is the claim's.
    fault = "caller" if members.get("fault") == "caller" else "upstream"
    return Problem(status, text("type", slug), title, text("detail", ""), fault, text("remedy", ""))
