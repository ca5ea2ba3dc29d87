"""What every command shares: options, settings, output, and running its coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import click

from ..discovery import find_devices
from ..errors import SettingsError, Unreachable
from ..lan_device import LanDevice, device_url
from ..ledger import Ledger
from ..messages import Messages
from ..scheduler import Scheduler
from ..settings import KnownDevice, Profile, Settings, load_settings, save_settings, settings_path
from ..transport import server_url
from .output import Output

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Context:
    """One run of the program. Options of the command line win over the environment, and that over the profile."""

    environ: Mapping[str, str]
    say: Messages
    out: Output = field(init=False)
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.out = Output(self.say)

    # ------------------------------------------------------------------ settings

    def settings(self) -> Settings:
        return load_settings(settings_path(self.environ))

    def save(self, settings: Settings) -> None:
        save_settings(settings_path(self.environ), settings)

    def profile(self, role: str) -> Profile:
        """The profile that was asked for, else the one named like ``role``, else ``default``."""
        settings = self.settings()
        wanted = self.options.get("profile")
        if wanted is not None and wanted not in settings.profiles:
            raise SettingsError(f"there is no profile {wanted!r}", f"fallow login --profile {wanted} …")
        found = settings.profiles.get(wanted or role) or settings.profiles.get("default") or Profile()
        given = {name: self.options[name] for name in ("scheduler", "ledger", "token") if self.options.get(name)}
        for name, own in (("scheduler", found.scheduler), ("ledger", found.ledger)):
            if own is not None and given.get(name, own) != own and "token" not in given:
                found = replace(found, token=None)  # a token goes only to the servers that it is for
        return replace(found, **given)

    def scheduler(self, role: str) -> Scheduler:
        profile = self.profile(role)
        if profile.scheduler is None:
            raise SettingsError(
                "no scheduler is known", "fallow login --scheduler URL, or give --scheduler or FALLOW_SCHEDULER"
            )
        return Scheduler(server_url(profile.scheduler), profile.token)

    def ledger(self, role: str) -> Ledger:
        profile = self.profile(role)
        if profile.ledger is None:
            raise SettingsError("no ledger is known", "fallow login --ledger URL, or give --ledger or FALLOW_LEDGER")
        return Ledger(server_url(profile.ledger), profile.token)

    # ------------------------------------------------------------------ devices

    async def device(self, *, with_token: bool = True, state: str | None = None) -> LanDevice:
        """The device meant by ``--device``: an address, an id or its end; else the only one known or found.

        :param state: where none was named, one in this state is meant.
        :raises SettingsError: none, several, or no token for it.
        """
        wanted = self.options.get("device", "")
        known = self.settings().devices
        if not wanted and state is None and len(known) == 1:
            wanted = next(iter(known))
        matching = [key for key in known if wanted and (key == wanted or key.endswith(wanted))]
        if len(matching) == 1:
            address = await self._current_address(matching[0], known[matching[0]].url)
        elif "." in wanted or ":" in wanted or wanted == "localhost":
            address = device_url(wanted)
        else:
            address = await self._discovered(wanted, state)
        device = LanDevice(address)
        try:
            device.token = self.environ.get("FALLOW_LAN_TOKEN") or None
            if with_token and device.token is None:
                device_id = (await device.info()).device_id
                if device_id not in known:
                    raise SettingsError(
                        f"there is no token for {device_id}", "fallow activate, or fallow pair for a further phone"
                    )
                device.token = known[device_id].lan_token
        except BaseException:
            await device.close()
            raise
        return device

    async def _current_address(self, device_id: str, address: str) -> str:
        """Where a known device is now: at its last address, else where mDNS finds it."""
        async with LanDevice(address) as device:
            try:
                if (await device.info()).device_id == device_id:
                    return address
            except Unreachable as error:
                found = [one.url for one in await find_devices() if one.device_id == device_id]
                if not found:
                    raise error
                return found[0]
        return await self._discovered(device_id)

    async def _discovered(self, wanted: str, state: str | None = None) -> str:
        found = [d for d in await find_devices() if not wanted or d.device_id.endswith(wanted) or d.host == wanted]
        if not wanted and len(found) > 1:
            found = [d for d in found if state in (None, d.state)] or found
        if len(found) == 1:
            return found[0].url
        if found:
            names = ", ".join(device.device_id for device in found)
            raise SettingsError(f"several devices answer: {names}", "say which by --device")
        raise SettingsError("no device answers on this network", "give its address by --device HOST:PORT")

    def remember_device(self, device_id: str, url: str, lan_token: str) -> None:
        self.save(self.settings().with_device(device_id, KnownDevice(url, lan_token)))

    # ------------------------------------------------------------------ running

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)


pass_context = click.make_pass_decorator(Context)


def _store(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and parameter.name is not None:
        ctx.find_object(Context).options[parameter.name] = value  # type: ignore[union-attr]  # main() always sets it


def _store_json(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_object(Context).out.as_json = True  # type: ignore[union-attr]  # main() always sets it


def json_option(command: F) -> F:
    return click.option("--json", is_flag=True, expose_value=False, callback=_store_json, help="Print JSON.")(command)


def _stored(flag: str, envvar: str | None, help_text: str) -> Callable[[F], F]:
    return click.option(flag, envvar=envvar, expose_value=False, callback=_store, help=help_text)


scheduler_option = _stored("--scheduler", "FALLOW_SCHEDULER", "The scheduler's address.")
ledger_option = _stored("--ledger", "FALLOW_LEDGER", "The ledger's address.")
profile_option = _stored("--profile", "FALLOW_PROFILE", "Which login to use.")
device_option = _stored("--device", "FALLOW_DEVICE", "The device: address, id, or the end of its id.")


def _token_from_environment(command: F) -> F:
    # Only by environment or login: a token on the command line is seen by everyone on the computer.
    return click.option("--token", envvar="FALLOW_TOKEN", expose_value=False, callback=_store, hidden=True)(command)


def at_scheduler(command: F) -> F:
    """Options of a command that calls the scheduler."""
    return scheduler_option(profile_option(_token_from_environment(json_option(command))))


def at_ledger(command: F) -> F:
    """Options of a command that calls the ledger."""
    return ledger_option(profile_option(_token_from_environment(json_option(command))))


def at_device(command: F) -> F:
    """Options of a command that calls a device on this LAN."""
    return device_option(json_option(command))
