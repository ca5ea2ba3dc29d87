"""Help and languages: every command has its texts in both."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from command_world import Fallow
from fallow_client import cli
from fallow_client.messages import TERMS, ZH, Messages, language_of
from fallow_client.sentences import ZH_SENTENCES


def every_command(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from every_command(inner, (*path, name))


@pytest.mark.parametrize("path", [path for path, _ in every_command(cli.fallow)], ids=" ".join)
@pytest.mark.parametrize("lang", ["C", "zh_CN.UTF-8"])
def test_help_of_everything(fallow: Fallow, path: tuple[str, ...], lang: str) -> None:
    code, out, _ = fallow(*path, "--help", LANG=lang)
    assert code == cli.OK
    assert out.startswith("Usage: fallow")


def test_every_help_text_is_in_the_chinese_catalogue() -> None:
    missing = set()
    for _, command in every_command(cli.fallow):
        texts = [(command.help or "").partition("\n\n")[0]]
        texts += [parameter.help or "" for parameter in command.params if isinstance(parameter, click.Option)]
        missing |= {text for text in texts if text and text not in ZH}
    assert missing == set()


def test_translations_keep_the_places_of_values() -> None:
    for english, chinese in ZH.items():
        assert places(english) == places(chinese), english


def places(text: str) -> list[str]:
    return sorted(part.partition("}")[0] for part in text.split("{")[1:])


def test_translating_leaves_the_english_commands_alone() -> None:
    before = cli.fallow.commands["fetch"].help
    Messages("zh").localised(cli.fallow)
    assert cli.fallow.commands["fetch"].help == before
    assert "{version}" not in Messages("zh")(TERMS, version="1")


@pytest.mark.parametrize(
    ("environ_", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "de_DE", "LC_MESSAGES": "zh_TW"}, "zh"),
        ({"LANG": "de_DE"}, "en"),
    ],
)
def test_languages(environ_: dict[str, str], language: str) -> None:
    assert language_of(environ_) == language


def test_every_command_that_prints_has_json() -> None:
    for path, command in every_command(cli.fallow):
        if not isinstance(command, click.Group):
            assert "json" in {parameter.name for parameter in command.params}, path


def test_refusals_are_chinese_where_the_catalogue_has_them() -> None:
    say = Messages("zh").sentence
    assert say("The setup code is wrong: 4 tries are left") == "设置码错误：还可以尝试 4 次"
    assert say("http://127.0.0.1:9 does not answer: Connection refused") == "http://127.0.0.1:9 没有应答：连接被拒绝"
    assert say("no token: nobody knows: this") == "no token: nobody knows: this"
    assert Messages("en").sentence("The setup code is wrong: x") == "The setup code is wrong: x"


def test_each_sentence_has_the_places_of_its_translation() -> None:
    for english, chinese in ZH_SENTENCES.items():
        assert english.count("{}") == chinese.count("{}"), english
