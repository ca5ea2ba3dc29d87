"""What the device is and has to spare: disk, processor, memory, temperature; its addresses and what stands before them.

Everything here is read by psutil and from /proc and /sys, and tolerates what a device lacks.
"""
