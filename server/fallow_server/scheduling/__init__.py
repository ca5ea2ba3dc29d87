"""Who shall hold what, and who serves whom. Pure: values in, values out; the hour and random draws are arguments.

``views`` is what the decisions see of a device, ``filters`` says who may be chosen and why not, ``scores`` orders the
rest, ``assignment`` places objects on devices and ``routing`` picks devices for one consumer's request.
"""
