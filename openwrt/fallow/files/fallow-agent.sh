#!/bin/sh
# Fallow's libraries lie in a folder of their own, in front of the feed's. Where they are sources (a package that was not
# made by the SDK), their bytecode is kept in memory and not on the flash; for each version apart, because Python knows an
# older source by its time, and all of ours have the same. Root never runs what the service has written.
export PYTHONPATH=/usr/lib/fallow
read -r version <"$PYTHONPATH/fallow_agent/VERSION"
export PYTHONPYCACHEPREFIX="${FALLOW_BYTECODE:-/var/run/fallow/root}/$version"
unset FALLOW_BYTECODE
# The service's own: /var, where it is on other systems, is memory here.
export FALLOW_STATE_DIR="${FALLOW_STATE_DIR:-/etc/fallow/agent}"
exec /usr/bin/python3 -P -s -m fallow_agent "$@"
