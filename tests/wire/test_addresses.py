"""Addresses as text."""

from __future__ import annotations

import ipaddress

import pytest
from fallow_wire.addresses import is_ipv4
from hypothesis import given
from hypothesis import strategies as st


def usual(text: str) -> bool:
    try:
        return str(ipaddress.IPv4Address(text)) == text
    except ValueError:
        return False


@given(st.ip_addresses().map(str) | st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4}){3}\s?") | st.text(max_size=20))
def test_what_is_ipv4_in_its_usual_text_is_what_would_be_written_the_same_again(text: str) -> None:
    assert is_ipv4(text) == usual(text)


@pytest.mark.parametrize("text", ["", "1.2.3", "01.2.3.4", "1.2.3.4 ", "1.2.3.4\0", "1.2.3.٤", "::1", "\ud800"])
def test_other_texts_are_not(text: str) -> None:
    assert not is_ipv4(text)
