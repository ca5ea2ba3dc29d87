"""The ledger: takes devices' proofs, books points, pays rewards, and shows anyone how it came to each number.

``verification`` and ``journal`` decide and do no I/O; ``books`` writes postings; ``settlement`` turns a batch into
settlements and an ack; the rest is what its name says. ``app`` puts it together.
"""
