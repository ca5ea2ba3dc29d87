"""Devices: how they enrol, their sessions, what they report, and whether they can be reached.

``live`` is what other concerns see; ``sessions`` fills it from WebSockets, ``dial_back`` tests claimed addresses,
``addresses`` decides which may be tested, ``records`` keeps what outlives a session.
"""
