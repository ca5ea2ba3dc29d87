"""A network of Debian machines: the operator's server, a device at the edge of a home, its owner's computer within it,
and the place that packages come from. The addresses are public ones, in a network that has no way out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import roots
from machines import Machine, machine
from namespaces import hosts, inside, names, run, until

ROOT = Path(__file__).parents[3]
NET, SERVER, DEVICE, OWNER = NAMESPACES = names("net", "server", "device", "owner")
PACKAGES_ADDRESS, SERVER_ADDRESS, DEVICE_ADDRESS = "11.22.33.3", "11.22.33.1", "11.22.33.44"
LAN_ADDRESS, OWNER_ADDRESS = "192.168.88.1", "192.168.88.2"
LINKS = (
    (NET, "packages", f"{PACKAGES_ADDRESS}/24", SERVER, "eth0", f"{SERVER_ADDRESS}/24"),
    (NET, "home", "11.22.33.254/32", DEVICE, "wan0", f"{DEVICE_ADDRESS}/24"),
    (DEVICE, "lan0", f"{LAN_ADDRESS}/24", OWNER, "eth0", f"{OWNER_ADDRESS}/24"),
)
NAMES = ("packages.fallow.example", "fallow.example", "ledger.fallow.example")
HOSTS = f"127.0.0.1 localhost\n{PACKAGES_ADDRESS} {NAMES[0]}\n{SERVER_ADDRESS} {NAMES[1]} {NAMES[2]}\n"
BUSY = "FALLOW_PROCESS_SPARE_PERCENT_MIN=0"
MASQUERADE = """
table ip nat {
  chain postrouting { type nat hook postrouting priority 100; oifname "wan0" masquerade; }
}
"""
SERVE = """
import functools, http.server, ssl, sys
folder, certificate, address = sys.argv[1:]
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # an answer ends by its length: apt takes no end of a TLS connection for it
handler = functools.partial(Handler, directory=folder)
server = http.server.ThreadingHTTPServer((address, 443), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


class Repository:
    """The signed apt repository, made by packaging/apt-repository with a key of this run."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "served"
        self.directory.mkdir()
        self._home = folder / "gnupg"
        self._home.mkdir(mode=0o700)
        who = "Fallow packages <packages@fallow.example>"
        self._gpg("--passphrase", "", "--quick-generate-key", who, "ed25519", "sign", "never")
        listed = self._gpg("--list-keys", "--with-colons")
        self.key = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))

    def _gpg(self, *arguments: str) -> str:
        command = ["gpg", "--batch", "--quiet", *arguments]
        # The key is as old as the packages may be: a signature may not be older than its key.
        command[1:1] = ["--faked-system-time", "1700000000"]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"GNUPGHOME": str(self._home)}

    def publish(self, packages: Path, directory: Path | None = None, keep: int = 5) -> None:
        """All packages of a folder."""
        command = [
            ROOT / "packaging/apt-repository",
            "--key",
            self.key,
            "--keep",
            str(keep),
            directory or self.directory,
        ]
        subprocess.run([*command, *sorted(packages.glob("*.deb"))], env=self.environment, check=True)

    def clear(self) -> None:
        for part in self.directory.iterdir():
            shutil.rmtree(part) if part.is_dir() else part.unlink()

    def close(self) -> None:
        subprocess.run(["gpgconf", "--kill", "all"], env=self.environment, capture_output=True)


@dataclass(frozen=True, slots=True)
class Certificates:
    """``authority``: what machines trust, ``trusted``: its name in their store. ``served``: key and certificate of all
    names."""

    authority: str
    trusted: str
    served: Path


def certificates(folder: Path) -> Certificates:
    authority, key, request, served = (folder / name for name in ("ca.pem", "ca.key", "request", "served.pem"))
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"]
    signs = [
        "-x509",
        "-days",
        "2",
        "-subj",
        "/CN=Tests of packages",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ]
    subprocess.run([*new, *signs, "-keyout", key, "-out", authority], check=True, capture_output=True)
    alternatives = f"subjectAltName={','.join(f'DNS:{name}' for name in NAMES)}\n"
    (folder / "names").write_text(alternatives + "authorityKeyIdentifier=keyid\nbasicConstraints=CA:FALSE\n")
    subprocess.run(
        [*new, "-subj", f"/CN={NAMES[1]}", "-keyout", folder / "served.key", "-out", request],
        check=True,
        capture_output=True,
    )
    sign = ["openssl", "x509", "-req", "-in", request, "-CA", authority, "-CAkey", key, "-CAcreateserial", "-days", "1"]
    subprocess.run([*sign, "-extfile", folder / "names", "-out", served], check=True, capture_output=True)
    served.write_text((folder / "served.key").read_text() + served.read_text())
    hashed = ["openssl", "x509", "-noout", "-hash", "-in", authority]
    trusted = subprocess.run(hashed, check=True, capture_output=True, text=True).stdout.strip() + ".0"
    return Certificates(authority.read_text(), trusted, served)


class World:
    def __init__(self, folder: Path, repository: Repository, made: Certificates) -> None:
        self.folder = folder
        self.repository = repository
        self._certificates = made

    @contextlib.contextmanager
    def machine(self, suite: roots.Suite, namespace: str, name: str, **files: str) -> Iterator[Machine]:
        """A fresh machine that knows the names and trusts the certificates of this network."""
        root = roots.root(suite)
        store = "/etc/ssl/certs"
        bundle = f"{store}/ca-certificates.crt"
        common = {
            "/etc/hosts": HOSTS + f"127.0.1.1 {name}\n",
            # What update-ca-certificates would make, which takes minutes where it is emulated.
            bundle: (root / bundle.lstrip("/")).read_text() + self._certificates.authority,
            f"{store}/{self._certificates.trusted}": self._certificates.authority,
            # An agent yields to whoever else works this computer; these tests must pass on a busy one.
            "/etc/systemd/system.conf.d/tests.conf": f"[Manager]\nDefaultEnvironment={BUSY}\n",
        }
        folder = self.folder / f"m-{os.getpid()}-{name}"
        with machine(root, folder, namespace, name, common | files) as made:
            yield made

    @property
    def certificate(self) -> str:
        return self._certificates.served.read_text()


@contextlib.contextmanager
def world(folder: Path, repository: Repository) -> Iterator[World]:
    made = certificates(folder)
    with hosts(NAMESPACES, LINKS):
        # NET joins its two wires as the internet would.
        run(NET, "ip", "link", "add", "br0", "type", "bridge")
        for wire in ("packages", "home"):
            run(NET, "ip", "address", "flush", "dev", wire)
            run(NET, "ip", "link", "set", wire, "master", "br0")
        run(NET, "ip", "address", "add", f"{PACKAGES_ADDRESS}/24", "dev", "br0")
        run(NET, "ip", "link", "set", "br0", "up")
        run(DEVICE, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        run(DEVICE, "nft", "-f", "-", given=MASQUERADE)
        for namespace in (SERVER, DEVICE):
            run(namespace, "ip", "route", "add", "default", "via", PACKAGES_ADDRESS)
        run(OWNER, "ip", "route", "add", "default", "via", LAN_ADDRESS)
        serve = [sys.executable, "-c", SERVE, str(repository.directory), str(made.served), PACKAGES_ADDRESS]
        server = subprocess.Popen(inside(NET, *serve), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            look = inside(NET, "curl", "-sko", "/dev/null", f"https://{PACKAGES_ADDRESS}/")
            until(lambda: subprocess.run(look).returncode == 0)
            yield World(folder, repository, made)
        finally:
            server.terminate()
            server.wait()
