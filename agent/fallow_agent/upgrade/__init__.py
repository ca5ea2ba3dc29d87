"""Newer versions of the agent: whether one is advised here, and how the owner's package manager installs it.

The server says a version and to how many devices; what that version is comes from the package sources that the owner's
own system trusts, signed by their keys. Nothing that a server sends is ever run.
"""
