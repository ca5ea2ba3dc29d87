.PHONY: all built
all:
built:
	$(Build/Prepare)
	$(Build/Configure)
	$(Build/Compile)

define BuildPackage
.PHONY: $(1)
all: $(1)
$(1): built
	$$(call Package/$(1)/install,$$(OUT)/$(1))
endef
