"""Who holds a lock on this machine, told without taking the lock: a look must never stop a pass from starting."""

from pathlib import Path

_LOCKS = Path("/proc/locks")
_FIELDS = 6  # proc_locks(5): number, kind, mode, access, pid, device:inode


def lock_holder(path: Path, *, locks: Path = _LOCKS, processes: Path = Path("/proc")) -> str | None:
    """`process 4711 (oidc-mirror)`, or None when nobody holds the lock, or the system does not tell."""
    try:
        inode = path.stat().st_ino
        lines = locks.read_text().splitlines()
    except OSError:
        return None
    # By inode alone: some file systems (btrfs, overlayfs) show another device there than stat does.
    for fields in (line.split() for line in lines if "->" not in line):  # the arrow marks who waits
        if len(fields) >= _FIELDS and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            return f"process {fields[4]}{_name(processes / fields[4])}"
    return None


def _name(process: Path) -> str:
    try:
        return f" ({(process / 'comm').read_text().strip()})"
    except OSError:
        return ""
