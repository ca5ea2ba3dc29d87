# shellcheck shell=ash
# Where content is kept, for the service's script: never on the router's own small flash.
#
# storage_choose WANTED MB [MOUNTS] sets
#   STORAGE_DIR    a folder; empty for that of the agent's state, on an overlay that is an external disk
#   STORAGE_BYTES  at most so much of it; empty for the agent's own default
#   STORAGE_FLOOR  so much stays free; empty for the agent's own default

STORAGE_KB_MIN=1048576     # an external disk below 1 GB is no place for content
MEMORY_SHARE=8             # of what is available
MEMORY_MB_MAX=64

storage_free_kb() {
	df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print $4 }'
}

# The first external disk that can be written and has room, by its mount point.
storage_disk() {
	local device point type options rest free
	while read -r device point type options rest; do
		# Others know no owners: files there can only be root's.
		case "$type" in ext4 | f2fs | btrfs | xfs) ;; *) continue ;; esac
		case "$device" in /dev/*) ;; *) continue ;; esac
		case "$point" in / | /rom* | /overlay* | /boot*) continue ;; esac
		case ",$options," in *,ro,*) continue ;; esac
		free="$(storage_free_kb "$point")"
		[ "${free:-0}" -ge "$STORAGE_KB_MIN" ] && {
			echo "$point"
			return 0
		}
	done <"${1:-/proc/mounts}"
	return 1
}

storage_choose() {
	local wanted="$1" mb="$2" mounts="${3:-/proc/mounts}" free
	STORAGE_DIR='' STORAGE_BYTES='' STORAGE_FLOOR=''
	[ "${mb:-0}" -gt 0 ] && STORAGE_BYTES="$((mb * 1048576))"
	if [ -n "$wanted" ] && [ -d "$wanted" ]; then
		STORAGE_DIR="$wanted"
		return
	fi
	# A disk that was named and is not there is not replaced by another: its owner chose it.
	[ -n "$wanted" ] || STORAGE_DIR="$(storage_disk "$mounts")" || STORAGE_DIR=''
	[ -z "$STORAGE_DIR" ] || return
	if [ -z "$wanted" ]; then
		free="$(storage_free_kb "${FALLOW_OVERLAY:-/overlay}")"
		[ "${free:-0}" -lt "$STORAGE_KB_MIN" ] || return
	fi
	storage_memory "$mb"
}

# In the router's memory, in a folder that only root writes: in /tmp another could lay a link where content is to be.
storage_memory() {
	local mb="$1" available
	STORAGE_DIR=/var/run/fallow
	available="$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' "${FALLOW_MEMINFO:-/proc/meminfo}")"
	available="$((${available:-0} / MEMORY_SHARE))"
	[ "$available" -le "$MEMORY_MB_MAX" ] || available="$MEMORY_MB_MAX"
	[ "${mb:-0}" -gt 0 ] && [ "$mb" -lt "$available" ] && available="$mb"
	STORAGE_BYTES="$((available * 1048576))"
	STORAGE_FLOOR="$((16 * 1048576))"
}
