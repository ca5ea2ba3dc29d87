"""A week of a fleet, simulated: the server's own placement and routing decide, homes and consumers are made up.

``recordings`` reads what was recorded elsewhere, or makes a stand-in for it. ``homes`` is the truth about devices and
``demand`` about consumers; ``outlook`` is the agent's forecast for all devices at once. ``policies`` decide, ``week``
plays, ``bound`` says what no policy can exceed, ``report`` and ``picture`` tell; ``trace`` keeps a week for replay.
"""
