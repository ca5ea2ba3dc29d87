#!/bin/sh
# Fallow's libraries lie in a folder of their own, in front of the feed's. Where they are sources (a package that was not
# made by the SDK), their bytecode is kept in memory and not on the flash.
export PYTHONPATH=/usr/lib/fallow
export PYTHONPYCACHEPREFIX="${PYTHONPYCACHEPREFIX:-/tmp/fallow-bytecode}"
exec /usr/bin/python3 -P -s -m fallow_agent "$@"
