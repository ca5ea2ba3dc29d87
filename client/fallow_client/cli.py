"""The ``fallow`` command."""

from __future__ import annotations

import os
import sys

import click
from fallow_wire.errors import FallowError

from .commands import (
    auditor,
    books,
    consumer,
    earnings,
    login,
    operator,
    owner,
    publisher,
    reviews,
    speedtest,
    status,
    tariffs,
    tasks,
)
from .commands.context import Context
from .commands.output import clean
from .errors import ApiError, ClientError, FetchFailed, Unreachable
from .messages import EXIT_CODES, Messages, language_of

OK, FAILED, USAGE, REFUSED, UNREACHABLE, SERVER_FAULT, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fallow", prog_name="fallow")
def fallow() -> None:
    """Fallow puts the idle line of home devices to work, and pays their owners in points.

    \b
    Owner:      devices, claim, activate, pair, status, speedtest, limits, pause, resume, leave,
                points, rewards, redeem, redemptions, statements, settlement, reviews
    Publisher:  publish, objects, sites, tasks
    Consumer:   fetch
    Operator:   operator …
    Auditor:    verify
    """


for command in (
    owner.devices,
    owner.claim,
    owner.activate,
    owner.pair,
    status.status,
    speedtest.speedtest,
    owner.limits,
    owner.pause,
    owner.resume,
    owner.leave,
    earnings.points_command,
    earnings.rewards,
    earnings.redeem,
    earnings.redemptions,
    books.statements,
    books.settlement,
    reviews.own_reviews,
    publisher.publish,
    publisher.objects,
    publisher.sites,
    tasks.tasks,
    consumer.fetch_command,
    operator.operator,
    auditor.verify,
    login.login,
    login.logout,
):
    fallow.add_command(command)
operator.operator.add_command(tariffs.tariff)


def exit_code(error: ClientError) -> int:
    if isinstance(error, ApiError):
        return SERVER_FAULT if error.problem.status >= 500 else REFUSED
    if isinstance(error, Unreachable):
        return UNREACHABLE
    return INCOMPLETE if isinstance(error, FetchFailed) else FAILED


def complain(say: Messages, detail: str, remedy: str) -> None:
    """One line on standard error: what happened, and what to do."""
    line = f"{say('error')}: {say.sentence(clean(detail))}" + (f" – {say.sentence(clean(remedy))}" if remedy else "")
    click.echo(line, err=True)


def run(arguments: list[str], environ: dict[str, str]) -> int:
    """Run the command and give its exit code. :param arguments: without the program's name."""
    say = Messages(language_of(environ))
    program = say.localised(fallow)
    context = Context(environ, say)
    try:
        code = program.main(arguments, prog_name="fallow", standalone_mode=False, obj=context)
    except click.ClickException as error:
        error.show()
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        complain(say, say("interrupted"), "")
        return INTERRUPTED
    except ClientError as error:
        complain(say, error.detail, error.remedy)
        return exit_code(error)
    except FallowError as error:
        complain(say, error.detail, "")
        return FAILED
    except BrokenPipeError:
        # The reader of our output has gone; nothing more may be written to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code if isinstance(code, int) else OK  # --help and --version give theirs


def main() -> None:
    sys.exit(run(sys.argv[1:], dict(os.environ)))
