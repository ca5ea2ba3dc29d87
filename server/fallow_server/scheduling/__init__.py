"""Who shall hold what, and who serves whom. Pure: values in, values out; the hour and random draws are arguments.

``views`` is what the decisions see of a device, ``filters`` says who may be chosen and why not. ``demand`` counts what
consumers ask for, and ``placement`` finds which copies of all objects are worth it, over ``columns`` of numbers that
``gathering`` and ``unpacking`` make; only these, ``booking`` and ``expectation`` need numpy. For a single task
``scores`` orders devices and ``assignment`` chooses among them. ``routing`` picks devices for one consumer's request.
"""
