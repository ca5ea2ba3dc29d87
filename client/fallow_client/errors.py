"""What can go wrong for a caller of the SDK. Each error says in one line what happened and what to do."""

from __future__ import annotations

from fallow_wire.http import Problem


class ClientError(Exception):
    """Root of the SDK's errors. ``detail`` says what happened, ``remedy`` what to do."""

    def __init__(self, detail: str, remedy: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy


class ApiError(ClientError):
    """The other side answered, and refused. ``problem.type`` is a stable slug."""

    def __init__(self, problem: Problem, url: str) -> None:
        told = [text.rstrip(".") for text in (problem.title, problem.detail) if text]
        super().__init__(": ".join(told), problem.remedy)
        self.problem = problem
        self.url = url


class Unreachable(ClientError):
    """Nobody answered at ``url``, or the answer broke off."""

    def __init__(self, url: str, detail: str) -> None:
        super().__init__(f"{url} does not answer: {detail}", "check the address, the network, and that it runs")
        self.url = url


class BadAnswer(ClientError):
    """The other side answered with something that is not what its API promises."""

    def __init__(self, url: str, detail: str) -> None:
        super().__init__(f"{url} gave an answer that this version does not understand: {detail}", "check both versions")
        self.url = url


class FetchFailed(ClientError):
    """A download could not be completed; what arrived is kept in the part file."""


class SettingsError(ClientError):
    """Something is missing from, or wrong with, the settings of this user."""
