"""What a real kube-apiserver 1.36.2 answered, byte for byte, as captured into tests/fixtures."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "fixtures" / "kube-apiserver-1.36.2"


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """One HTTP/1.1 answer as it came over the wire: status line, headers, empty line, body."""

    name: str
    raw: bytes

    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1])

    def header(self, name: str) -> str | None:
        """The value of the header `name`, in any case; None where there is none."""
        lines = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines)
        return next((value.strip() for key, _, value in pairs if key.lower() == name.lower()), None)

    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]


def capture(name: str) -> RawAnswer:
    """The capture of that name, as `01-rsa1/anonymous-bound-discovery`."""
    return RawAnswer(name, (FOLDER / f"{name}.http").read_bytes())


def captures() -> tuple[RawAnswer, ...]:
    """Every capture, by name."""
    paths = sorted(FOLDER.glob("*/*.http"))
    return tuple(capture(path.relative_to(FOLDER).with_suffix("").as_posix()) for path in paths)
