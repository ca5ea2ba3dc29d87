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

_owned() {
	grep -s "^$2/" "/usr/lib/opkg/info/$1.list"
}

# "Require-User: NAME:GROUP" of a package, with the next free numbers.
add_group_and_user() {
	local name number=32768
	name="$(sed -n 's/^Require-User: //p' "/usr/lib/opkg/info/$1.control")"
	[ -n "$name" ] && ! grep -q "^${name%:*}:" /etc/passwd || return 0
	while grep -q ":$number:" /etc/passwd /etc/group; do number=$((number + 1)); done
	echo "${name#*:}:x:$number:" >>/etc/group
	echo "${name%:*}:x:$number:$number:${name%:*}:/var/run/${name%:*}:/bin/false" >>/etc/passwd
}

# After a package was unpacked: its user, its scripts that run once, its own script, its services.
default_postinst() {
	local package file status=0
	package="$(basename "${1%.*}")"
	add_group_and_user "$package"
	[ -z "$(_owned "$package" /etc/sysctl.d)" ] || /etc/init.d/sysctl restart
	for file in $(_owned "$package" /etc/uci-defaults); do
		[ ! -f "$file" ] || { (cd /etc/uci-defaults && . "$file") && rm -f "$file"; }
	done
	[ ! -f "/usr/lib/opkg/info/$package.postinst-pkg" ] || (. "/usr/lib/opkg/info/$package.postinst-pkg") || status=$?
	for file in $(_owned "$package" /etc/init.d); do
		[ "$PKG_UPGRADE" = 1 ] || "$file" enable
		"$file" start
	done
	return "$status"
}

# Before its files are deleted.
default_prerm() {
	local package file status=0
	package="$(basename "${1%.*}")"
	[ ! -f "/usr/lib/opkg/info/$package.prerm-pkg" ] || (. "/usr/lib/opkg/info/$package.prerm-pkg") || status=$?
	for file in $(_owned "$package" /etc/init.d); do
		[ "$PKG_UPGRADE" = 1 ] || "$file" disable
		"$file" stop
	done
	return "$status"
}
