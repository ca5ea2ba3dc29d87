"""Who shall hold what, and who serves whom. Pure: values in, values out; the hour and random draws are arguments.

``views`` is what the decisions see of a device, ``filters`` says who may be chosen and why not.

*Copies of all objects.* ``demand`` counts what consumers ask for, ``presence`` how much of the time devices are there.
``gathering`` packs both, a row at a time; elsewhere ``unpacking`` makes ``columns`` of them, by ``regions`` and with
what ``expectation`` says of the coming day. ``placement`` finds which copies are worth it: ``booking`` is what lines
may be reckoned with, ``costs`` the prices. Only these need numpy.

*One task.* ``needs`` is what it asks of a device. ``scores`` orders devices and ``assignment`` chooses whom to give a
copy; ``matching`` shares out what is about no object. ``explanation`` keeps why.

*One request.* ``holders`` finds lines near the consumer's place (``places``, ``distances``) that hold the object, and
``routing`` chooses among them; ``bookings`` is what they were promised, ``reached`` who could be reached at all.
``hashing`` names devices for what nobody holds.
"""
