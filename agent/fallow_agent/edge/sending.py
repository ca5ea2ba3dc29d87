"""Zero-copy sending: slices of a file to a connection by ``sendfile``, as the budget and the receipts allow."""

from __future__ import annotations

import asyncio
import os

from fallow_wire.http import Span

from fallow_agent.line.pacer import Share

from .account import Account
from .connection import Connection, Disconnected

RECEIPT_WAIT_S = 10.0
STALL_S_MAX = 30.0
"""A peer that takes nothing for so long, or a budget that stays at 0, ends the transfer: its place is for others."""
SLICES_BEFORE_YIELD = 4
"""A fast reader must not keep the loop to itself; 2 MiB at most."""


class ContentLost(Exception):
    """The file ended before its object did."""


class ReceiptMissing(Exception):
    """The consumer did not confirm in time; nothing more is sent to it."""


class Progress:
    """What one transfer has sent; the service reads it for its status and its totals."""

    def __init__(self, account: Account, started_at: int) -> None:
        self.account = account
        self.started_at = started_at
        self.sent_bytes = 0


async def send_span(connection: Connection, descriptor: int, span: Span, share: Share, progress: Progress) -> None:
    """Send ``span`` of the file. The head has been sent.

    :raises Disconnected: the peer, or our own side, closed the connection.
    :raises ReceiptMissing: none came within :data:`RECEIPT_WAIT_S`.
    :raises ContentLost: the file is shorter than the span.
    """
    loop = asyncio.get_running_loop()
    account = progress.account
    position, end = span.start, span.start + span.length
    slices = 0
    target = connection.socket.fileno()
    while position < end:
        wanted = min(end - position, account.window())
        if wanted == 0:
            await _await_receipt(connection, account, loop)
            continue
        allowed = share.allowance(wanted, loop.time())
        if allowed == 0:
            await _await_budget(connection, share, wanted, loop)
            continue
        connection.check_open()
        try:
            count = os.sendfile(target, descriptor, position, allowed)
        except (BlockingIOError, InterruptedError):
            slices = 0
            connection.deadline = loop.time() + STALL_S_MAX
            await connection.writable()
            continue
        except OSError as error:
            raise Disconnected from error
        if count == 0:
            raise ContentLost
        account.sent(position, count)
        share.sent(count)
        progress.sent_bytes += count
        position += count
        slices += 1
        if slices == SLICES_BEFORE_YIELD and position < end:
            slices = 0
            await asyncio.sleep(0)


async def _await_receipt(connection: Connection, account: Account, loop: asyncio.AbstractEventLoop) -> None:
    until = loop.time() + RECEIPT_WAIT_S
    connection.deadline = until + STALL_S_MAX
    while account.window() == 0:
        left = until - loop.time()
        if left <= 0 or not await connection.woken(left):
            raise ReceiptMissing


async def _await_budget(connection: Connection, share: Share, wanted: int, loop: asyncio.AbstractEventLoop) -> None:
    delay_s = share.delay_s(wanted)
    if delay_s is None:
        connection.deadline = loop.time() + STALL_S_MAX
        if not await connection.woken(STALL_S_MAX):
            raise Disconnected
    elif delay_s > 0:
        connection.deadline = loop.time() + delay_s + STALL_S_MAX
        await connection.woken(delay_s)
