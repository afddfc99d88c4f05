"""The harness that rehearses documents: what it runs, what it lets pass, and that it notices what became untrue."""

from dataclasses import dataclass, field

import pytest

from support.documents import Command, Direction, DocumentError, Ran, parse, rehearse

FIRST, SECOND = "1a" * 20, "2b" * 20
DOCUMENT = f"""# Title

<!-- world: a day passes -->
```yaml
key: value
```
1. Do this:
   ```console
   $ look \\
   > twice
   Committed {FIRST} on https://127.0.0.1:4001 at 2026-11-23 08:00:00Z after 3 s
   $ show
   commit {FIRST[:12]}, then {SECOND[:12]} on https://127.0.0.1:4001
   ```
```sh
never --run
```
"""
LOOK = f"Committed {SECOND} on https://127.0.0.1:5001 at 2027-01-31T09:30:00+00:00 after 1.5 s\n"


@dataclass
class ScriptedStage:
    """A stage whose commands answer from a list; it writes down what was asked of it."""

    answers: list[Ran]
    heard: list[str] = field(default_factory=list)

    def direct(self, direction: Direction) -> None:
        if direction.text == "nobody knows":
            raise ValueError("unknown")
        self.heard.append(f"{direction.text}: {direction.block}")

    def run(self, script: str, status: int) -> Ran:
        self.heard.append(f"{status} {script}")
        return self.answers.pop(0)


def same_run() -> ScriptedStage:
    """Another run that says the same: other commits, ports and dates."""
    return ScriptedStage([Ran(LOOK, 0), Ran(f"commit {SECOND[:12]}, then {FIRST[:12]} on https://127.0.0.1:5001", 0)])


def test_commands_and_directions_are_carried_out_in_order() -> None:
    """A direction knows the block that follows; other blocks are not run; a command may have several lines."""
    stage = same_run()
    rehearse(DOCUMENT, stage)
    assert stage.heard == ["a day passes: key: value", "0 look \\\ntwice", "0 show"]


def test_other_values_of_the_same_shape_leave_the_document_as_it_is() -> None:
    """Dates and durations do not matter; commits and ports stand for one another, shortened or not."""
    assert rehearse(DOCUMENT, same_run()) == DOCUMENT


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (f"commit {FIRST[:12]}, then {SECOND[:12]} on https://127.0.0.1:5001", f"commit {FIRST[:12]}, then"),
        (f"commit {SECOND[:12]}, then {SECOND[:12]} on https://127.0.0.1:5001", f"then {FIRST[:12]}"),
        (f"commit {SECOND[:12]}, then {FIRST[:12]} on https://127.0.0.1:5002", "on https://127.0.0.1:5002"),
        (f"commit {SECOND[:10]}, then {FIRST[:12]} on https://127.0.0.1:5001", f"commit {FIRST[:10]}, then"),
        (f"commit {SECOND[:12]}, then {FIRST[:12]} at https://127.0.0.1:5001", "at https://127.0.0.1:4001"),
        (f"commit {SECOND[:12]}", f"commit {FIRST[:12]}\n"),
    ],
    ids=["swapped", "one_twice", "another_port", "shorter", "another_word", "less"],
)
def test_what_became_untrue_is_noticed(shown: str, expected: str) -> None:
    """The new text has what this run said, in the values of the document as far as they are known."""
    rehearsed = rehearse(DOCUMENT, ScriptedStage([Ran(LOOK, 0), Ran(shown, 0)]))
    assert rehearsed != DOCUMENT
    assert expected in rehearsed
    assert rehearsed.count("\n") == DOCUMENT.count("\n")


TOKEN = "$ a\nexp {} in {}\nid AROA{}\n$ b\nby AROA{}\n"
IDS = "A" * 17, "B" * 17, "C" * 17


@pytest.mark.parametrize(
    ("seconds", "duration", "ids", "same"),
    [
        ("1800000000", "1 h", (IDS[1], IDS[1]), True),
        ("1800000000", "3 min", (IDS[1], IDS[2]), False),
        ("180000000", "1 h", (IDS[1], IDS[1]), False),
        ("1800000000", "1 key", (IDS[1], IDS[1]), False),
    ],
    ids=["same", "another_role", "no_moment", "no_duration"],
)
def test_moments_lifetimes_and_roles_are_values(seconds: str, duration: str, ids: tuple[str, str], same: bool) -> None:
    """Seconds since 1970 are a moment, several units one duration, and the id of a role is one value everywhere."""
    text = f"```console\n{TOKEN.format('1795619579', '59 min 58 s', IDS[0], IDS[0])}```\n"
    stage = ScriptedStage([Ran(f"exp {seconds} in {duration}\nid AROA{ids[0]}", 0), Ran(f"by AROA{ids[1]}", 0)])
    assert (rehearse(text, stage) == text) is same


def test_refreshed_document_has_this_run_alone() -> None:
    """Every output is of one run, so that its values agree; the rest of the document is untouched."""
    rehearsed = rehearse(DOCUMENT, same_run(), refresh=True)
    assert f"   {LOOK}" in rehearsed
    assert f"   commit {SECOND[:12]}, then" in rehearsed
    assert rehearse(rehearsed, same_run()) == rehearsed


CONSOLE = "```console\n$ a\nx\n{}```\n"


def test_documented_failure_is_no_fault() -> None:
    """The shell's own question shows the status, and gets it."""
    text, stage = CONSOLE.format("$ echo $?\n3\n"), ScriptedStage([Ran("x", 3), Ran("3", 0)])
    assert rehearse(text, stage) == text
    assert stage.heard == ["0 a", "3 echo $?"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (CONSOLE.format(""), "line 2: 'a' ended with 3"),
        (CONSOLE.format("$ b\n"), "line 2: 'a' ended with 3"),
        ("<!-- world: nobody knows -->\n", "line 1: unknown"),
        ("\n```console\n$ a\n", "line 2: the block does not end"),
        ("```console\nx\n```\n", "line 2: a console block begins with a command"),
    ],
    ids=["silent_failure", "failure_before_another_command", "direction", "endless", "no_command"],
)
def test_fault_of_the_document_is_named(text: str, sentence: str) -> None:
    """It says the line."""
    with pytest.raises(DocumentError, match=sentence):
        rehearse(text, ScriptedStage([Ran("x", 3)]))


def test_direction_without_a_block_has_none() -> None:
    """At the end of a document nothing follows."""
    assert parse("<!-- world: rests -->\n") == (Direction(1, "rests", ""),)


def test_command_without_output_stands_where_its_output_would() -> None:
    """An output that appears is written in the place that the command keeps for it."""
    assert parse("```console\n$ a\n```\n") == (Command("a", "", 2, 2, ""),)
