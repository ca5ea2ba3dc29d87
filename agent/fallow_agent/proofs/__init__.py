"""Proofs of service: kept on the device until the ledger has acknowledged them.

:mod:`outbox` holds every served ticket from its first byte to the ledger's acknowledgement; :mod:`submission` hands
sealed batches over, one after the other, for as long as it takes.
"""
