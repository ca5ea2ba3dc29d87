"""A laboratory for benches: homes, their lines and the internet in network namespaces, with real programs in them.

    consumer ─┐
        sink ─┴ core ──delay── isp ══line══ modem ─ home ─┬ house
                servers                    (shaped) (NAT) └ pi

``network`` makes the wires, ``delay`` the distance, ``processes`` and ``fallow`` what runs, ``loads`` and ``ledbat``
the traffic, ``household`` one home with all of them; ``measure`` and ``report`` (pure) the figures, ``picture`` the
drawing. Needs root; nothing leaves the namespaces.
"""
