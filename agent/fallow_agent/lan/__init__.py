"""Port M: activation, the owner's limits, pause and leave, status, for phones of the same home.

:mod:`.guard` decides who may call at all, before any handler. :mod:`.pairing` knows the setup code and the phones.
:mod:`.api` is the table of calls. :mod:`.announce` makes the device findable by mDNS.
"""
