#!/bin/sh
# Once a day, by crond: installs the update that the network advises, where the owner has not turned that off.
[ "$(uci -q get fallow.agent.enabled)" != 0 ] && [ "$(uci -q get fallow.agent.auto_upgrade)" != 0 ] || exit 0
/usr/bin/fallow-agent upgrade --advised 2>&1 | logger -t fallow-agent
