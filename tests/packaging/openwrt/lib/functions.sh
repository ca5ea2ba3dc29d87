fail() {
	echo "stand-in: $*" >&2
	exit 99
}

append() {
	local value
	eval "value=\"\${$1}\""
	eval "$1=\"\${value:+\$value\${3:- }}\$2\""
}

config_load() {
	CONFIG_LOADED="$1"
	[ -f "$IPKG_INSTROOT/etc/config/$1" ] || fail "there is no configuration $1"
}
