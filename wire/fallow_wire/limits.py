"""Every size limit of the wire, in one place, with its reason."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

INTEGER_MAX = 2**53 - 1
"""Largest integer that every JSON reader represents exactly (RFC 8259, section 6)."""

JSON_DEPTH_MAX = 8
"""Nesting of the deepest signed kind is 5; the rest is room."""

JSON_DIGITS_MAX = 20
"""Longer integers are refused before they are converted: conversion is quadratic in the digits."""

ENROLMENT_BYTES_MAX = 4 * KIB
TICKET_BYTES_MAX = 4 * KIB
"""A ticket travels in a URL; most servers and proxies take 8 KiB of request line."""
RECEIPT_BYTES_MAX = 2 * KIB
BATCH_ITEMS_MAX = 500
BATCH_BYTES_MAX = BATCH_ITEMS_MAX * 7 * KIB
ACK_BYTES_MAX = 256 * KIB
STATEMENT_BYTES_MAX = 4 * MIB
HEAD_BYTES_MAX = 2 * KIB
TARIFF_BYTES_MAX = 64 * KIB
HARM_BYTES_MAX = 16 * KIB
"""31 days of some 250 bytes, in base64url."""

CHUNK_BYTES = MIB
MANIFEST_BYTES_MAX = 16 * MIB
"""A signed manifest: 67 bytes a chunk before base64url, so objects to about 180 GiB."""
MANIFEST_CHUNKS_MAX = 180 * 1024

SESSION_UP_BYTES_MAX = 128 * KIB
SESSION_DOWN_BYTES_MAX = MANIFEST_BYTES_MAX + 256 * KIB
"""A task carries a signed manifest."""
CONTENT_IDS_MAX = 1000
"""Object ids in one content message: 1000 × 67 bytes fit the upward limit."""

LAN_BODY_BYTES_MAX = 16 * KIB
RECEIPT_STEP_BYTES_MIN = MIB
RECEIPT_STEP_BYTES_MAX = 8 * MIB
TICKET_LIFETIME_S_MAX = 900
PROOF_AGE_S_MAX = 48 * 3600
CLAIM_LIFETIME_S = 600

SPEEDTEST_BYTES_MAX = 512 * MIB
"""Each way, of one speed test: eight seconds of 500 Mbit/s. Faster lines end earlier."""
SPEEDTEST_STREAMS_MAX = 4
"""Each way at once: one stream alone is held back by a single lost packet."""
SPEEDTEST_S_MAX = 45
"""From the first stream of a test on: both ways, and what waits in deep queues between and after them."""
