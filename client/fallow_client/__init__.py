"""The Python SDK of owners, publishers, operators and consumers, and the ``fallow`` command.

:class:`~.lan_device.LanDevice`, :class:`~.scheduler.Scheduler` and :class:`~.ledger.Ledger` each speak one API;
:func:`~.fetch.fetch` downloads an object from several devices at once; :func:`~.discovery.find_devices` finds the
devices of this LAN. All of them raise :class:`~.errors.ClientError` and nothing else of their own.
"""
