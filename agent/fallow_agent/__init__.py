"""What runs on the device: the LAN API, the link to the scheduler, the service port, the outbox of proofs.

One asyncio process. ``app.py`` builds and wires everything; decisions (lifecycle, guard, budget, forecast) are pure
and stand apart from what performs them.
"""
