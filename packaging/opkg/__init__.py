"""OpenWrt's packages without its SDK: what lies in them, their format, a feed of them."""
