"""The scheduler's API for publishers, owners and operators."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fallow_wire.fields import encode, hexadecimal, integer, text
from fallow_wire.keys import Jwk, JwkSet, PublicKey
from fallow_wire.plans import ByteRange, Plan, PlanRequest

from .errors import BadAnswer, ClientError
from .transport import Api, path_of, read_record

UPLOAD_PIECE_BYTES = 256 * 1024
UPLOAD_ANSWER_S = 300.0
"""The scheduler digests and stores the whole object before it answers."""


@dataclass(frozen=True, slots=True)
class PublishedObject:
    """``url`` is what consumers are given; ``chunks`` counts them."""

    id: Annotated[str, hexadecimal(64)]
    name: Annotated[str, text(1024, 1)]
    size: Annotated[int, integer()]
    type: Annotated[str, text(256)] = ""
    chunks: Annotated[int, integer()] = 0
    url: Annotated[str, text(2048)] = ""


@dataclass(frozen=True, slots=True)
class Account:
    """``token`` is told once, when it is made."""

    id: Annotated[str, text(64, 1)]
    role: Annotated[str, text(32)] = ""
    name: Annotated[str, text(256)] = ""
    token: Annotated[str | None, text(128)] = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A single-use token that binds one device to its owner. Unix seconds."""

    claim_token: Annotated[str, text(128, 8)]
    expires_at: Annotated[int, integer()]


async def _pieces(path: Path, progress: Callable[[int], None] | None) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(UPLOAD_PIECE_BYTES):
            yield piece
            if progress is not None:
                progress(len(piece))


def _replicas(count: int | None) -> dict[str, str]:
    return {} if count is None else {"replicas": str(count)}


def media_type_of(path: Path) -> str:
    """By its name; an encoded file (``.tar.gz``) is plain bytes, for the type would be that of its inside."""
    found, encoding = mimetypes.guess_type(path.name)
    return "application/octet-stream" if found is None or encoding is not None else found


class Scheduler(Api):
    """:param token: an account's; what is for anyone needs none."""

    async def health(self) -> dict[str, Any]:
        return await self.mapping("GET", "/v1/health")

    async def keys(self) -> dict[str, PublicKey]:
        """The scheduler's public keys by ``kid``."""
        found = await self.record(JwkSet, "GET", "/.well-known/jwks.json")
        keys = [PublicKey.from_jwk(jwk) for jwk in found.keys]
        return {key.thumbprint(): key for key in keys}

    # -------------------------------------------------------------- publishers

    async def publish(
        self,
        path: Path,
        *,
        name: str | None = None,
        media_type: str | None = None,
        replicas: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> PublishedObject:
        """Upload a file, streamed.

        :param replicas: devices that are to hold it; the server's default where None.
        :param progress: called with the bytes of each piece sent.
        :raises ClientError: the file cannot be read, or any error of :meth:`~.transport.Api.call`.
        """
        try:
            size = path.stat().st_size  # noqa: ASYNC240 - one call, and reading is in the same place
        except OSError as error:
            raise ClientError(f"{path}: {error.strerror}", "give a file that can be read") from error
        headers = {"Content-Type": media_type or media_type_of(path), "Content-Length": str(size)}
        return await self.record(
            PublishedObject,
            "POST",
            "/v1/objects",
            params={"name": name or path.name} | _replicas(replicas),
            headers=headers,
            data=_pieces(path, progress),
            answer_s=UPLOAD_ANSWER_S,
        )

    async def publish_origin(
        self, origin_url: str, name: str | None = None, replicas: int | None = None
    ) -> PublishedObject:
        """Let the scheduler pull an object from below a registered site."""
        body = {"origin_url": origin_url} | ({"name": name} if name else {})
        params = _replicas(replicas)
        return await self.record(PublishedObject, "POST", "/v1/objects", body, params=params, answer_s=UPLOAD_ANSWER_S)

    async def objects(self) -> list[dict[str, Any]]:
        return await self.pages("/v1/objects", "objects")

    async def object(self, object_id: str) -> dict[str, Any]:
        """One object and its replicas."""
        return await self.mapping("GET", path_of("v1", "objects", object_id))

    async def delete_object(self, object_id: str) -> None:
        await self.call("DELETE", path_of("v1", "objects", object_id))

    async def sites(self) -> list[dict[str, Any]]:
        return await self.listing("/v1/sites", "sites")

    async def add_site(self, name: str, origin: str) -> dict[str, Any]:
        return await self.mapping("POST", "/v1/sites", {"name": name, "origin": origin})

    async def delete_site(self, name: str) -> None:
        await self.call("DELETE", path_of("v1", "sites", name))

    async def tasks(self) -> list[dict[str, Any]]:
        return await self.pages("/v1/tasks", "tasks")

    async def task(self, task_id: str) -> dict[str, Any]:
        return await self.mapping("GET", path_of("v1", "tasks", task_id))

    async def add_task(
        self,
        kind: str,
        *,
        object_id: str | None = None,
        replicas: int | None = None,
        deadline: int | None = None,
        needs: Mapping[str, Any] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """:param kind: ``fill``, ``drop``, ``probe`` or ``live``. :param deadline: Unix seconds.
        :param needs: of each device, :param parameters: of the kind: docs/protocol.md."""
        optional = {
            "object": object_id,
            "replicas": replicas,
            "deadline": deadline,
            "needs": needs or None,
            "parameters": parameters or None,
        }
        body = {"kind": kind} | {name: value for name, value in optional.items() if value is not None}
        return await self.mapping("POST", "/v1/tasks", body)

    async def task_why(self, task_id: str) -> dict[str, Any]:
        """The last decisions about a task, newest first, and how it would be decided now."""
        return await self.mapping("GET", path_of("v1", "tasks", task_id, "why"))

    async def task_results(self, task_id: str) -> list[dict[str, Any]]:
        """What devices measured, by device."""
        return await self.pages(path_of("v1", "tasks", task_id, "results"), "results", "device")

    async def delete_task(self, task_id: str) -> None:
        await self.call("DELETE", path_of("v1", "tasks", task_id))

    # -------------------------------------------------------------- owners and operators

    async def claim(self) -> Claim:
        """A claim token for the calling owner."""
        return await self.record(Claim, "POST", "/v1/claims", {})

    async def devices(self) -> list[dict[str, Any]]:
        """The owner's own devices, or all of them for an operator."""
        return await self.pages("/v1/devices", "devices", "device_id")

    async def unbind_device(self, device_id: str) -> None:
        await self.call("DELETE", path_of("v1", "devices", device_id))

    async def accounts(self) -> list[Account]:
        found = await self.pages("/v1/accounts", "accounts")
        return [read_record(Account, item, self.base_url) for item in found]

    async def add_account(self, role: str, name: str) -> Account:
        return await self.record(Account, "POST", "/v1/accounts", {"role": role, "name": name})

    async def new_token(self, account_id: str) -> str:
        answer = await self.mapping("POST", path_of("v1", "accounts", account_id, "tokens"), {})
        token = answer.get("token")
        if not isinstance(token, str):
            raise BadAnswer(self.base_url, "token: is missing")
        return token

    async def revoke_tokens(self, account_id: str) -> None:
        await self.call("DELETE", path_of("v1", "accounts", account_id, "tokens"))

    # -------------------------------------------------------------- consumers

    async def plan(self, object_id: str, jwk: Jwk, ranges: tuple[ByteRange, ...] = ()) -> Plan:
        """Devices with a ticket each, and the origin. :param jwk: of a key made for this plan alone."""
        return await self.record(Plan, "POST", "/v1/plans", encode(PlanRequest(object_id, jwk, ranges)))
