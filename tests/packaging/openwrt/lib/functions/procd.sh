# procd's functions; what a script says is written, a call a line with its arguments between tabs, to PROCD_SAID.
_open=''

_say() {
	local word
	printf '%s' "$1" >>"$PROCD_SAID"
	shift
	for word in "$@"; do printf '\t%s' "$word" >>"$PROCD_SAID"; done
	printf '\n' >>"$PROCD_SAID"
}

_inside() {
	[ "$_open" = "$1" ] || fail "$2 outside of $1"
}

procd_open_service() { _open=service; _say service "$@"; }
procd_close_service() {
	_inside service procd_close_service
	type service_triggers >/dev/null && {
		_open=triggers
		service_triggers
		_open=service
	}
	_say end
	/sbin/procd start
}
procd_kill() { /sbin/procd stop; }
procd_open_instance() { _inside service procd_open_instance; _open=instance; _say instance "$@"; }
procd_close_instance() { _inside instance procd_close_instance; _open=service; _say instance-end; }

procd_set_param() {
	_inside instance procd_set_param
	case "$1" in
	command | respawn | env | data | file | netdev | limits | watch | user | group | pidfile | stdout | stderr | nice | \
		term_timeout | reload_signal | capabilities | no_new_privs | seccomp | facility | error) _say param "$@" ;;
	*) fail "procd_set_param $1: there is no such parameter" ;;
	esac
}
procd_append_param() {
	_inside instance procd_append_param
	grep -q "^param	$1	" "$PROCD_SAID" || fail "procd_append_param $1: nothing was set yet"
	_say param "$@"
}
procd_open_data() { _inside instance procd_open_data; _open=data; _depth=0; }
procd_close_data() {
	_inside data procd_close_data
	[ "$_depth" = 0 ] || fail 'the data are not closed'
	_open=instance
}
json_add_object() { _inside data json_add_object; _depth=$((_depth + 1)); _say data object "$@"; }
json_add_array() { _inside data json_add_array; _depth=$((_depth + 1)); _say data array "$@"; }
json_add_string() {
	_inside data json_add_string
	case "$1" in
	type | name | src | proto | family | dest_port | target) _say data string "$@" ;;
	*) fail "a rule of the firewall has no $1" ;;
	esac
}
json_close_object() { _depth=$((_depth - 1)); _say data end; }
json_close_array() { json_close_object; }
procd_add_mdns_service() {
	_inside data procd_add_mdns_service
	[ "$_depth" = 1 ] || fail 'mDNS services are an object of the data'
	[ "$#" -ge 3 ] || fail 'procd_add_mdns_service SERVICE PROTOCOL PORT [TEXT...]'
	_say mdns "$@"
}
procd_set_config_changed() { _say changed "$@"; }
procd_add_jail() {
	_inside instance procd_add_jail
	local flag
	_say jail "$@"
	shift
	for flag in "$@"; do
		case "$flag" in log | ubus | udebug | procfs | sysfs | ronly | requirejail | netns | userns | cgroupsns) ;;
		*) fail "procd_add_jail: there is no flag $flag" ;;
		esac
	done
}
procd_add_jail_mount() { _inside instance procd_add_jail_mount; _say jail-mount "$@"; }
procd_add_jail_mount_rw() { _inside instance procd_add_jail_mount_rw; _say jail-mount-rw "$@"; }
procd_add_reload_trigger() { _inside triggers procd_add_reload_trigger; _say reload-trigger "$@"; }
procd_add_validation() {
	_inside triggers procd_add_validation
	_say validation "$@"
	VALIDATING=1 "$@"
}

uci_load_validate() {
	local package="$1" type="$2" name="$3" function="$4" said status
	shift 4
	[ -z "$VALIDATING" ] || return 0
	[ "$CONFIG_LOADED" = "$package" ] || fail "$package was not loaded"
	said="$(/sbin/validate_data "$package" "$type" "$name" "$@")"
	status=$?
	eval "$said"
	[ -n "$function" ] || return "$status"
	"$function" "$name" "$status"
}
