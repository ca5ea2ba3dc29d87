"""Profiles: which account at which scheduler and ledger."""

from __future__ import annotations

import sys

import click

from ..errors import SettingsError
from ..scheduler import Scheduler
from ..settings import Profile, settings_path
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
    if token == "-":
        token = sys.stdin.readline().strip()
    elif token is None:
        token = click.prompt(context.say("Token"), hide_input=True, err=True)
    if not token:
        raise SettingsError("the token is empty", "give the token that the operator gave you")

    async def check() -> dict[str, object]:
        async with Scheduler(scheduler) as server:
            return await server.health()

    health = context.run(check())
    found = Profile(scheduler.rstrip("/"), ledger.rstrip("/") if ledger else None, token)
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
