"""The service port of the device: tickets at the door, content on disk, zero-copy sending.

``admission`` decides, ``account`` counts what was sent and confirmed under one ticket, ``register`` keeps the accounts
in the outbox. ``http1`` and ``connection`` are the small HTTP server below ``service``; ``docs/benchmarks.md`` says
what it costs next to nginx and ``service`` why it is there. ``content`` stores objects and ``filling`` fetches them.
"""
