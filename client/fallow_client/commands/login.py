"""Profiles: which account at which scheduler and ledger."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..errors import ApiError, BadAnswer, ClientError, SettingsError
from ..ledger import Ledger
from ..scheduler import Scheduler
from ..settings import Profile, settings_path
from ..transport import Api, server_url
from .context import Context, json_option, pass_context


@click.command()
@click.option("--scheduler", envvar="FALLOW_SCHEDULER", required=True, help="The scheduler's address.")
@click.option("--ledger", envvar="FALLOW_LEDGER", help="The ledger's address, for operators.")
@click.option("--token", envvar="FALLOW_TOKEN", help="The account's token; - reads it from standard input.")
@click.option("--profile", default="default", show_default=True, help="Name it, such as publisher or operator.")
@json_option
@pass_context
def login(context: Context, scheduler: str, ledger: str | None, token: str | None, profile: str) -> None:
    """Remember an account's token, in a file that only you can read.

    Commands of publishers, operators and owners take the profile of that name, else "default".

    \b
    Examples:
      fallow login --scheduler http://cdn.example:32550
      fallow login --scheduler http://cdn.example:32550 --ledger http://cdn.example:32551 --profile operator
    """
    scheduler = server_url(scheduler)
    ledger = None if ledger is None else server_url(ledger)
    if token == "-" or (token is None and not sys.stdin.isatty()):
        token = sys.stdin.readline().strip()
    elif token is None:
        token = click.prompt(context.say("Token"), hide_input=True, err=True)
    if not token:
        raise SettingsError("the token is empty", "give the token that the operator gave you")

    health = context.run(_checked(scheduler, ledger, token))
    found = Profile(scheduler, ledger, token)
    context.save(context.settings().with_profile(profile, found))
    path = settings_path(context.environ)
    if context.out.as_json:
        context.out.value({"profile": profile, "scheduler": found.scheduler, "path": str(path)})
    context.out.line(
        "Profile {profile}: {scheduler} (version {version}), kept in {path}.",
        profile=profile,
        scheduler=found.scheduler,
        version=health.get("version", "?"),
        path=path,
    )


async def _checked(scheduler: str, ledger: str | None, token: str) -> dict[str, Any]:
    """What the scheduler says of itself.

    :raises ClientError: an address is wrong, or the token is: better now than at the first command.
    """
    async with Scheduler(scheduler, token) as server:
        health = await _health(server, "scheduler")
        try:
            await server.call("GET", "/v1/devices", params={"limit": "1"})
        except ApiError as error:
            if error.problem.status == 401:
                raise
            # Known, but of a role that has no devices.
    if ledger is not None:
        async with Ledger(ledger) as server_of_books:
            await _health(server_of_books, "ledger")
    return health


async def _health(server: Api, role: str) -> dict[str, Any]:
    """:raises ClientError: no server of ``role`` is there."""
    try:
        found = await server.mapping("GET", "/v1/health")
    except (ApiError, BadAnswer) as error:
        if isinstance(error, ApiError) and error.problem.status >= 500:
            raise
        found = {}
    roles = {role, "all"} if role == "scheduler" else {role}
    if found.get("role", role if found else "") not in roles:
        raise ClientError(
            f"{server.base_url} is not a Fallow {role}",
            "the scheduler is usually at port 32550, the ledger at 32551, without a path",
        )
    return found


@click.command()
@click.option("--profile", default="default", show_default=True, help="Which login to forget.")
@json_option
@pass_context
def logout(context: Context, profile: str) -> None:
    """Forget a profile and its token."""
    settings = context.settings()
    if profile not in settings.profiles:
        raise SettingsError(f"there is no profile {profile!r}")
    context.save(settings.with_profile(profile, None))
    context.out.line("Forgotten.")
