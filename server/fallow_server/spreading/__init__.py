"""Copies follow demand: what consumers ask for is counted, and every few minutes placement is asked anew who shall hold
what. The decisions are ``scheduling``'s; here the fleet is gathered, the answer is had from another process, and what
is to be done becomes tasks.
"""
