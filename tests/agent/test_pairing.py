"""The setup code and the phones."""

from __future__ import annotations

from pathlib import Path

import pytest
from fallow_agent.lan.pairing import ALPHABET, PHONES_MAX, CodeLocked, Pairing, WrongCode, normal, setup_code
from fallow_agent.store import Settings, open_database


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(open_database(tmp_path / "agent.sqlite"))


def test_the_code_is_made_once_and_shown_in_groups(settings: Settings) -> None:
    code = Pairing(settings).code
    assert len(code) == 9
    assert code[4] == "-"
    assert set(code) <= set(ALPHABET) | {"-"}
    assert Pairing(settings).code == code
    assert normal(code) == setup_code(settings)


@pytest.mark.parametrize("typed", ["AB01-CD11", "ab01cd11", "abol-cdli", " AB0L CDIL "])
def test_people_may_type_it_their_way(settings: Settings, typed: str) -> None:
    Pairing(settings, "AB01-CD11").check(typed)


def test_five_wrong_codes_lock_until_a_restart_or_the_button(settings: Settings) -> None:
    pairing = Pairing(settings, "AB01-CD11")
    for left in (4, 3, 2, 1, 0):
        with pytest.raises(WrongCode) as wrong:
            pairing.check("wrong")
        assert wrong.value.attempts_left == left
    with pytest.raises(CodeLocked):
        pairing.check("AB01-CD11")
    pairing.unlock()
    pairing.check("AB01-CD11")
    Pairing(settings, "AB01-CD11").check("AB01-CD11")


def test_a_right_code_gives_all_tries_back(settings: Settings) -> None:
    pairing = Pairing(settings, "AB01-CD11")
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(WrongCode):
                pairing.check("")
        pairing.check("AB01-CD11")


def test_text_of_any_alphabet_is_only_wrong(settings: Settings) -> None:
    with pytest.raises(WrongCode):
        Pairing(settings, "AB01-CD11").check("密码ß\udc80".encode("utf-8", "replace").decode())


def test_several_phones_and_only_their_hashes(settings: Settings, tmp_path: Path) -> None:
    pairing = Pairing(settings)
    tokens = [pairing.add_phone() for _ in range(PHONES_MAX)]
    assert all(Pairing(settings).knows(token) for token in tokens)
    assert not pairing.knows("")
    assert not pairing.knows(tokens[0] + "x")
    newest = pairing.add_phone()
    assert pairing.knows(newest)
    assert not pairing.knows(tokens[0])
    assert pairing.knows(tokens[1])
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert newest.encode() not in stored
    pairing.forget_phones()
    assert not pairing.knows(newest)
