"""The internet line: what it can carry, what the household uses, and what is left for others.

``meter`` reads counters, and ``router`` those of the home's router, which ``router_watch`` follows; ``capacity`` says
what the line can carry, by what ``observed``, ``sqm`` and others know of it; ``budget`` decides, ``forecast`` looks
ahead, ``pacer`` enforces; ``echo``, ``path`` and ``delay`` make round-trip times, which ``delay_probe`` drives, and
``train`` measures an idle line; ``reader`` is the thin driver that puts them together.
"""
