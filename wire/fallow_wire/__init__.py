"""What both sides say: keys, signed kinds, session messages, manifests, the points formula.

Everything here is pure: bytes or values in, values or a named error out. Nothing here reads a clock, draws
randomness (but :meth:`keys.PrivateKey.generate`), opens a file or a socket. ``docs/protocol.md`` is its description.
"""
