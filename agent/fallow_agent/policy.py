"""The scheduler's policy in force: kept, so that tickets can be checked after a restart while the scheduler is away."""

from __future__ import annotations

import logging

from fallow_wire.errors import PeerError
from fallow_wire.fields import decode, encode
from fallow_wire.keys import PublicKey
from fallow_wire.session import AgentAdvice, Policy

from .store import Settings
from .upgrade.advice import advised

_log = logging.getLogger(__name__)

POLICY = "policy"
"""Name of the setting."""


class PolicyInForce:
    """The newest policy and the scheduler's keys in it."""

    def __init__(self, settings: Settings, enrolled: Policy, device_id: str = "", running: str = "") -> None:
        """
        :param enrolled: the one that came with the enrolment, for as long as the session brought none.
        :param running: the agent's version.
        """
        self._device_id = device_id
        self._running = running
        self._settings = settings
        self._policy = self._stored() or enrolled
        self._keys = _keys_of(self._policy)

    @property
    def policy(self) -> Policy:
        return self._policy

    def status(self) -> dict[str, dict[str, str]]:
        """What the owner's phone sees of it: the version that this device should have, where it has an older one."""
        wanted = advised(self._policy.agent, self._device_id, self._running)
        return {} if wanted is None else {"update": {"version": wanted}}

    @property
    def keys(self) -> dict[str, PublicKey]:
        """The scheduler's keys by ``kid``."""
        return self._keys

    def take(self, policy: Policy) -> bool:
        """A policy has come; True when the scheduler's keys are others now. Stored only when it says something new."""
        if policy.jwks == self._policy.jwks and _without_time(policy) == _without_time(self._policy):
            return False
        keys = _keys_of(policy)
        changed = keys != self._keys
        self._settings.set(POLICY, encode(policy))
        self._policy, self._keys = policy, keys
        return changed

    def _stored(self) -> Policy | None:
        value = self._settings.get(POLICY)
        try:
            return None if value is None else decode(Policy, value, strict=False)
        except PeerError as error:
            _log.warning("the stored policy cannot be read (%s); the enrolment's is used", error.detail)
            return None


def _without_time(policy: Policy) -> tuple[str, int, int, AgentAdvice | None]:
    return policy.ledger, policy.heartbeat_s, policy.ticket_idle_s, policy.agent


def _keys_of(policy: Policy) -> dict[str, PublicKey]:
    found: dict[str, PublicKey] = {}
    for jwk in policy.jwks.keys:
        try:
            key = PublicKey.from_jwk(jwk)
        except PeerError as error:
            _log.warning("a key of the scheduler is refused: %s", error.detail)
            continue
        found[key.thumbprint()] = key
    return found
