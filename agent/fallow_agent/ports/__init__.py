"""How the service port becomes reachable from the internet: mappings at the home router.

Pure: the codecs (``pcp.py``, ``natpmp.py``), when to ask for what (``opening.py``), and what follows for the scheduler
and the owner (``claims.py``, ``advice.py``). The rest performs: ``keeper.py`` asks by ``port_control.py`` and
``upnp.py``. The device's own firewall is its system's to open.
"""

IPV4, IPV6 = FAMILIES = ("ipv4", "ipv6")
PCP, NATPMP, UPNP = "pcp", "natpmp", "upnp"
"""As ``ServicePort.mapped_by`` names them."""
