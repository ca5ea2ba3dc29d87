"""The state directory: keys, the link token and the SQLite files, readable by the server's user alone."""

from __future__ import annotations

import fcntl
import os
import pwd
from pathlib import Path

from fallow_wire.errors import LocalError

from . import tokens
from .config import DatabaseConfig, ServerConfig
from .signing import SigningKeys, write_secret


class StateDirectory:
    def __init__(self, config: ServerConfig) -> None:
        self.path = config.state_dir
        self.config = config
        self.scheduler_keys = self.path / "scheduler.keys"
        self.ledger_keys = self.path / "ledger.keys"
        self.link_token_file = self.path / "link.token"

    def _files(self) -> list[Path]:
        """The secrets that this role cannot run without."""
        keys = [self.scheduler_keys] if self.config.with_scheduler else []
        keys += [self.ledger_keys] if self.config.with_ledger else []
        return [*keys, self.link_token_file]

    def missing(self) -> list[Path]:
        """Empty once ``fallow-server init`` has run for this role."""
        return [path for path in self._files() if not path.exists()]

    def create(self) -> list[Path]:
        """Make what is missing and leave alone what is there.

        :returns: what was made.
        :raises LocalError: when the directory cannot be made, or others could read it.
        """
        try:
            if not self.path.exists():
                self.create_directory()
            elif not any(self.path.iterdir()):
                self.path.chmod(0o700)
            elif self.path.stat().st_mode & 0o077:
                raise LocalError(f"{self.path} is open to other users; run chmod 700 {self.path}, or name another one")
            made = self.missing()
            for path in made:
                if path == self.link_token_file:
                    write_secret(path, tokens.new_token(tokens.LINK))
                else:
                    SigningKeys.create(path)
        except OSError as error:
            raise LocalError(
                f"{error.filename or self.path}: {error.strerror}; name another with --state-dir"
            ) from None
        return made

    def create_directory(self) -> None:
        self.path.mkdir(parents=True)
        self.path.chmod(0o700)

    def check_user(self) -> None:
        """:raises LocalError: this is root, and the directory another user's, who could not read what is made here."""
        if os.geteuid() != 0 or not self.path.exists() or self.path.stat().st_uid == 0:
            return
        number = self.path.stat().st_uid
        try:
            user = pwd.getpwuid(number).pw_name
        except KeyError:
            user = f"#{number}"
        raise LocalError(f"{self.path} is of the user {user}; run: runuser -u {user} -- fallow-server …")

    def check(self) -> None:
        """:raises LocalError: unless ``fallow-server init`` has run here, or when this user may not write here."""
        missing = self.missing()
        if missing:
            names = ", ".join(path.name for path in missing)
            raise LocalError(
                f"{self.path} has no {names}; run: fallow-server init --state-dir {self.path}"
                + (f" --role {self.config.role}" if self.config.role != "all" else "")
            )
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise LocalError(f"{self.path} is not writable for this user")

    def lock(self) -> list[int]:
        """Hold this directory for the roles that run here: two schedulers on one database would each believe that the
        fleet is theirs. Gives the descriptors that hold it; they end with the process, killed or not.

        :raises LocalError: another server runs here.
        """
        roles = [("scheduler", self.config.with_scheduler), ("ledger", self.config.with_ledger)]
        held: list[int] = []
        for role, wanted in roles:
            if not wanted:
                continue
            try:
                held.append(os.open(self.path / f"{role}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                for descriptor in held:
                    os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    raise LocalError(f"{self.path} is in use by another fallow-server ({role})") from None
                raise LocalError(f"{self.path}: {error.strerror}") from None
        return held

    def link_token(self) -> str:
        """:raises LocalError: when the file is not a link token."""
        try:
            token = self.link_token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise LocalError(f"{self.link_token_file}: {error}") from None
        if not token.startswith(tokens.LINK) or len(token) != len(tokens.new_token(tokens.LINK)):
            raise LocalError(f"{self.link_token_file} is not a link token")
        return token

    def database_urls(self) -> DatabaseConfig:
        """The configured databases, SQLite files here by default."""
        configured = self.config.database
        path = self.path.absolute()
        return DatabaseConfig(
            configured.scheduler or f"sqlite+aiosqlite:///{path / 'scheduler.sqlite'}",
            configured.ledger or f"sqlite+aiosqlite:///{path / 'ledger.sqlite'}",
        )
