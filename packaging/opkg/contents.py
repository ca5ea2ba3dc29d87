"""What lies in each package: the files that the Makefiles in ``openwrt/`` install too, by OpenWrt's SDK."""

from __future__ import annotations

import re
from pathlib import Path

from .ipk import Package
from .translations import lmo, read_po

LIBRARY = "usr/lib/fallow"
LANGUAGES = {"zh_Hans": "zh-cn"}
"""Names of gettext, and LuCI's for the same languages."""
AGENT_FILES = {
    "fallow-agent.sh": "usr/bin/fallow-agent",
    "fallow-agent.init": "etc/init.d/fallow-agent",
    "fallow.config": "etc/config/fallow",
    "fallow.defaults": "etc/uci-defaults/50-fallow",
    "fallow.hotplug": "etc/hotplug.d/iface/60-fallow",
    "fallow.keep": "lib/upgrade/keep.d/fallow-agent",
    "fallow.sysctl": "etc/sysctl.d/50-fallow-agent.conf",
    "fallow-agent.acl": "usr/share/acl.d/fallow-agent.json",
    "storage.sh": f"{LIBRARY}/storage.sh",
    "daily.sh": f"{LIBRARY}/daily.sh",
}


def packages(repository: Path, libraries: Path) -> list[Package]:
    """All packages.

    :param libraries: what :func:`.libraries.collect` has put together.
    :raises FileNotFoundError: the phone app has not been built.
    """
    version = (repository / "VERSION").read_text().strip()
    openwrt = repository / "openwrt"
    app = repository / "agent/fallow_agent/lan/app/index.html"
    if not app.is_file():
        raise FileNotFoundError(f'{app} is missing: run "make web" first')
    wire = _python(repository / "wire/fallow_wire", f"{LIBRARY}/fallow_wire")
    agent = _python(repository / "agent/fallow_agent", f"{LIBRARY}/fallow_agent")
    agent[f"{LIBRARY}/fallow_agent/VERSION"] = f"{version}\n".encode()
    agent |= {target: (openwrt / "fallow/files" / name).read_bytes() for name, target in AGENT_FILES.items()}
    luci = _below(openwrt / "luci-app-fallow/root", "") | _below(openwrt / "luci-app-fallow/htdocs", "www")
    recipe = (openwrt / "fallow/Makefile").read_text()
    own = [
        Package("fallow-wire", version, _depends(recipe, "fallow-wire"), "net",
                _field(recipe, "fallow-wire", "TITLE"), "Apache-2.0", wire),
        Package("fallow-agent", version, _depends(recipe, "fallow-agent"), "net",
                _field(recipe, "fallow-agent", "TITLE"), "Apache-2.0", agent, _programs(agent), ("/etc/config/fallow",),
                _script(recipe, "fallow-agent/prerm"), _field(recipe, "fallow-agent", "USERID")),
        Package("fallow-python", version, ("python3-light",), "lang", "Python libraries of fallow-agent",
                "Apache-2.0 MIT PSF-2.0 BSD-3-Clause", _below(libraries, LIBRARY)),
        Package("luci-app-fallow", version, ("luci-base", "luci-lib-uqr", "fallow-agent"), "luci",
                "LuCI page of Fallow", "Apache-2.0", luci, _programs(luci)),
    ]  # fmt: skip
    return own + [_language(openwrt, version, *names) for names in LANGUAGES.items()]


def _language(openwrt: Path, version: str, gettext: str, luci: str) -> Package:
    translated = read_po((openwrt / f"luci-app-fallow/po/{gettext}/fallow.po").read_text("utf-8"))
    code = luci.replace("-", "_")
    default = f"uci set luci.languages.{code}='简体中文 (Chinese Simplified)'; uci commit luci\n"
    files = {
        f"usr/lib/lua/luci/i18n/fallow.{luci}.lmo": lmo(translated),
        f"etc/uci-defaults/luci-i18n-fallow-{luci}": default.encode(),
    }
    name = f"luci-i18n-fallow-{luci}"
    return Package(name, version, ("luci-app-fallow",), "luci", f"Translation of luci-app-fallow: {luci}", "Apache-2.0",
                   files, _programs(files))  # fmt: skip


def _python(source: Path, target: str) -> dict[str, bytes]:
    """The modules and what they read; typing marks and bytecode are left out."""
    return {path: data for path, data in _below(source, target).items() if not path.endswith((".pyc", "py.typed"))}


def _below(source: Path, target: str) -> dict[str, bytes]:
    paths = (path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(Path(target, path.relative_to(source))): path.read_bytes() for path in paths}


def _programs(files: dict[str, bytes]) -> frozenset[str]:
    """What may be executed: programs, and the scripts that the system runs."""
    return frozenset(
        path for path in files if path.startswith(("usr/bin/", "etc/init.d/", "etc/uci-defaults/", "usr/libexec/"))
    )


def _script(recipe: str, name: str) -> str:
    return _definition(recipe, name).replace("$$", "$")


def _definition(recipe: str, name: str) -> str:
    found = re.search(rf"^define Package/{re.escape(name)}\n(.*?)^endef", recipe, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found[1].replace("\\\n", " ")


def _depends(recipe: str, name: str) -> tuple[str, ...]:
    return ("libc", *(word.lstrip("+") for word in _field(recipe, name, "DEPENDS").split()))


def _field(recipe: str, name: str, field: str) -> str:
    """The Makefile is the one place that says these."""
    found = re.search(rf"{field}:=(.*)", _definition(recipe, name))
    assert found is not None, name
    return found[1]
