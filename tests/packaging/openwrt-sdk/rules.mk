# What OpenWrt's rules.mk, package.mk and python3-package.mk give to a recipe, as far as ours use it. A package's files go
# to $(OUT)/<package>. What is not known ends the build.
INCLUDE_DIR := $(TOPDIR)/include
PKG_BUILD_DIR = $(OUT)/build/$(PKG_NAME)
INSTALL_DIR := install -d -m0755
INSTALL_BIN := install -m0755
INSTALL_DATA := install -m0644
INSTALL_CONF := install -m0600
CP := cp -fpR
FIND := find
MAKEFLAGS += --warn-undefined-variables
