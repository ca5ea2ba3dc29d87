"""Probes: short measurements of public targets that publishers name, in what the household leaves of the line.

``home`` says which addresses are the owner's own and are never touched, ``pace`` how often this home measures at all;
``attempts`` does one measurement and ``prober`` a whole probe. Of an answer nothing is kept but times, size and status.
"""
