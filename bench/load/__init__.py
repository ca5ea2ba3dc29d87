"""What ``bench/scale.py`` sets a server under: a registry of devices, simulated devices with real keys over real
sockets, devices without sockets, and consumers."""
