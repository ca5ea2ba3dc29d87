"""A program of the system, run for what it prints."""

from __future__ import annotations

import asyncio
import contextlib

CALL_S = 5.0


async def output(*command: str) -> bytes | None:
    """What it prints; None where it fails, is not there, or takes longer than :data:`CALL_S`."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(CALL_S):
            told, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return told if process.returncode == 0 else None
