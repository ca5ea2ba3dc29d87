# Devices of the networks that a router has by default.
network_get_device() {
	case "$2" in
	lan) eval "$1=br-lan" ;;
	guest) eval "$1=br-guest" ;;
	*) return 1 ;;
	esac
}
