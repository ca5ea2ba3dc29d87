"""What a consumer meets: redirects, Metalink, plans, and the bytes from the origin where no device fits.

``devices`` is the fleet as the decisions of ``scheduling`` see it, ``tickets`` and ``escrow`` say what may be
promised to a device, ``service`` is the HTTP side.
"""
