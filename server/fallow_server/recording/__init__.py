"""What the scheduler saw and decided, kept for a week, so that another policy can be tried on it before anyone ships
it: ``make bench NAME=replay`` plays it. It holds places of consumers, never an address.
"""
