"""What AWS, Google and Entra would answer to the public documents of an issuer, and to a token of it.

What holds for every relying party (who signed, what expired) is decided elsewhere, and handed in.
"""

from dataclasses import dataclass

from mirror.model import Note, Reason
from mirror.trust.party_limits import ROWS, Party, Shown


@dataclass(frozen=True, slots=True)
class Answer:
    """What one relying party would say: it accepts when there is no reason. `notes` are worth knowing."""

    party: Party
    reasons: tuple[Reason, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def accepts(self) -> bool:
        """Whether it would take the documents, and the token where there is one."""
        return not self.reasons


def answers(shown: Shown, common: tuple[Reason, ...]) -> tuple[Answer, ...]:
    """What each relying party would answer.

    Args:
        shown: what it looks at.
        common: why none of them would accept: what is wrong with the documents or the token for everybody.
    """
    return tuple(_answer(party, shown, common) for party in Party)


def _answer(party: Party, shown: Shown, common: tuple[Reason, ...]) -> Answer:
    broken = [row for row in ROWS if row.party is party and not row.holds(shown)]
    reasons = tuple(Reason(row.code, row.sentence, row.remedy) for row in broken if not row.is_note)
    notes = tuple(Note(row.code, row.sentence) for row in broken if row.is_note)
    return Answer(party, common + reasons, notes)
