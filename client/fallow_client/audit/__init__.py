"""``fallow verify``: computes a ledger again from what devices, consumers and the scheduler signed, without the ledger.

:mod:`.source` opens an export or a copy of the database, :mod:`.books` follows the chain and the balances,
:mod:`.proofs` every settlement from its stored inputs. Nothing of it writes to what it audits.
"""
