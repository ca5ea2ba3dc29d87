"""Network tasks: what devices are asked to do, kept in the database until it is done, given up or out of time.

``states`` is the pure table; ``driver`` keeps tasks, places them and listens to the fleet.
"""
