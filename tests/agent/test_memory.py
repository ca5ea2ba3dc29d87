"""What keeps the process small must not change what it does. Each test is a process of its own: imports happen once."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

HASHED = any(Path(ssl.get_default_verify_paths().openssl_capath).glob("*.0"))


def run(code: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT")}
    program = f"from fallow_agent import memory\nmemory.set_up()\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_zeroconf_is_loaded_from_source_and_everything_else_as_ever() -> None:
    code = """
import sys, zeroconf.asyncio, multidict
found = {m.__file__.rpartition(".")[2] for n, m in sys.modules.items() if n.startswith("zeroconf")}
print(found, type(zeroconf.asyncio.AsyncZeroconf).__name__)
"""
    assert run(code) == "{'py'} type"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
@pytest.mark.skipif(not HASHED, reason="needs a hashed directory of certificates (ca-certificates)")
def test_certificates_are_looked_up_and_not_all_loaded() -> None:
    code = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"
    assert run(code) == "0"
    # A peer is still verified: a root of the system passes, looked up in the directory when it is needed.
    pem = sorted(Path(ssl.get_default_verify_paths().openssl_capath).glob("*.0"))[0]
    environment = os.environ | {"SSL_CERT_FILE": os.devnull}
    done = subprocess.run(["openssl", "verify", str(pem)], env=environment, capture_output=True, text=True)
    assert done.stdout.strip().endswith("OK"), done.stderr


def test_a_bundle_that_somebody_named_is_used(tmp_path: Path) -> None:
    bundle = tmp_path / "none.pem"
    bundle.write_text("")
    assert run("import os; print(os.environ['SSL_CERT_FILE'])", SSL_CERT_FILE=str(bundle)) == str(bundle)
