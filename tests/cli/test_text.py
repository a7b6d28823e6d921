"""Tables and colours: what the terminal shows, and what a pipe gets."""

import sys

import pytest

from npusim.cli.text import paint, table

GREEN = "\033[32mok\033[0m"


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return monkeypatch


def test_a_terminal_gets_colour(terminal):
    assert paint("ok", "good") == GREEN


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_colour_gets_none(terminal, variable, value):
    terminal.setenv(variable, value)
    assert paint("ok", "good") == "ok"


def test_an_empty_no_color_counts_for_nothing(terminal):
    terminal.setenv("NO_COLOR", "")
    assert paint("ok", "good") == GREEN


def test_a_pipe_gets_plain_text(terminal):
    terminal.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert paint("ok", "good") == "ok"
    assert table(("a", "b"), [("x", 1)]) == "a  b\nx  1"


def test_colour_takes_no_room_in_a_table(terminal):
    text = table(("state", "n"), [(paint("ok", "good"), 1_000), ("failed", 2)])
    assert text == f"\033[1mstate       n\033[0m\n{GREEN}      1,000\nfailed      2"
