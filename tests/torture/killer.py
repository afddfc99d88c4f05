"""Runs a command, counts its system calls that change something, and kills it immediately before the N-th of them.

    python killer.py N all|one RESULT COMMAND...

The calls of all processes that the command starts are counted, git included; 0 only counts. `all` kills every process
at once, like a power cut or the end of a container. `one` kills only the calling process, like `kill -9`, and lets the
others continue. One JSON object is written to the file RESULT.

The server side of a fetch or push (upload-pack, receive-pack) stands for another machine: its calls are counted, but
it is never killed. At a call of the server, all other processes are killed.

A seccomp filter stops the traced processes only at these calls, so they run at full speed, and the N-th call has not
begun when the signal arrives (seccomp(2), ptrace(2)). This works on Linux on x86-64.
"""

import ctypes
import json
import os
import platform
import signal
import struct
import sys
import time
from pathlib import Path

CALLS = {
    1: "write", 18: "pwrite64", 20: "writev", 44: "sendto", 46: "sendmsg", 59: "execve", 74: "fsync", 75: "fdatasync",
    76: "truncate", 77: "ftruncate", 82: "rename", 83: "mkdir", 84: "rmdir", 85: "creat", 86: "link", 87: "unlink",
    88: "symlink", 90: "chmod", 91: "fchmod", 132: "utime", 235: "utimes", 258: "mkdirat", 263: "unlinkat",
    264: "renameat", 265: "linkat", 266: "symlinkat", 268: "fchmodat", 280: "utimensat", 285: "fallocate",
    307: "sendmmsg", 316: "renameat2", 322: "execveat",
}  # fmt: skip
"""System calls of x86-64 that change files, send data, or start processes."""
OPENING = {2: ("open", 1), 257: ("openat", 2)}
"""Calls that may create a file, and the index of the argument with the flags."""
ON_DESCRIPTOR = frozenset({"write", "pwrite64", "writev", "sendto", "sendmsg", "sendmmsg", "ftruncate", "fallocate"})
SILENT_SECONDS = 60.0
"""A command without a counted call for this time hangs and is ended."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.restype = ctypes.c_long
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

_TRACEME, _CONT, _SETOPTIONS, _GETEVENTMSG, _GET_SYSCALL_INFO = 0, 7, 0x4200, 0x4201, 0x420E
_OPTIONS = 0x100000 | 0x80 | 0x02 | 0x04 | 0x08 | 0x10  # EXITKILL, SECCOMP, FORK, VFORK, CLONE, EXEC
_EVENT_SECCOMP, _EVENT_EXEC, _EVENTS_OF_BIRTH = 7, 4, (1, 2, 3)
_WALL = 0x40000000
_SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER_MODE = 36, 38, 22, 2
_AUDIT_ARCH_X86_64 = 0xC000003E
_ALLOW, _TRACE = 0x7FFF0000, 0x7FF00000
_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_INFO_BYTES = 88
_NUMBER_AT = 24


_SERVERS = (b"git-receive-pack", b"git-upload-pack", b"receive-pack", b"upload-pack")


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def filter_bytes() -> bytes:
    """The filter in classic BPF: TRACE for the calls above, ALLOW for all others."""
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _AUDIT_ARCH_X86_64),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, 0),
    ]
    for number in CALLS:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _TRACE)]
    for number, (_, argument) in OPENING.items():
        code += [
            (_EQUAL, 0, 5, number),
            (_LOAD, 0, 0, 16 + 8 * argument),
            (_AND, 0, 0, os.O_CREAT),
            (_EQUAL, 0, 1, 0),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _TRACE),
        ]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *each) for each in code)


def ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    """One ptrace(2) call; -1 if the process no longer exists."""
    return int(_LIBC.ptrace(request, pid, address, data))


def become_traced(command: list[str]) -> None:
    """In the child: let the parent trace us, then run `command`."""
    code = filter_bytes()
    program = _Program(len(code) // 8, code)
    if ptrace(_TRACEME, 0) == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        _LIBC.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if _LIBC.prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0) == 0:
            os.execv(command[0], command)  # noqa: S606  a command of the tests, without a shell
    os._exit(99)


def what_is_called(pid: int) -> tuple[str, str] | None:
    """The call at which `pid` stopped, and its file or kind of socket; None if no other process can see its effect."""
    info = ctypes.create_string_buffer(_INFO_BYTES)
    if ptrace(_GET_SYSCALL_INFO, pid, _INFO_BYTES, ctypes.addressof(info)) < 0:
        return None
    number, first = struct.unpack_from("QQ", info.raw, _NUMBER_AT)
    name = CALLS.get(number) or OPENING[number][0]
    if name not in ON_DESCRIPTOR:
        return name, ""
    try:
        target = str(Path(f"/proc/{pid}/fd/{first}").readlink())
    except OSError:
        return name, "?"
    return None if target.startswith("anon_inode:") else (name, target)


class Tracer:
    """All traced processes of one command. `seen` is the number of calls; `at` is the call that did not happen."""

    def __init__(self, wanted: int, *, every: bool) -> None:
        self.wanted, self.every = wanted, every
        self.seen = 0
        self.at: tuple[str, str] | None = None
        self.pids: set[int] = set()
        self.far: set[int] = set()
        self.killing = False

    def follow(self, first: int) -> int:
        """Trace until the last process ends. Returns the wait status of the first one."""
        status = -1
        self.pids.add(first)
        while True:
            try:
                pid, what = os.waitpid(-1, _WALL)
            except ChildProcessError:
                return status
            signal.alarm(int(SILENT_SECONDS))
            if os.WIFSTOPPED(what):
                self.pids.add(pid)
                self._stopped(pid, what)
            else:
                self.pids.discard(pid)
                status = what if pid == first else status

    def _stopped(self, pid: int, what: int) -> None:
        event, number = what >> 16, os.WSTOPSIG(what)
        if event == _EVENT_SECCOMP:
            self._called(pid)
        elif event in _EVENTS_OF_BIRTH and pid in self.far:
            self.far.add(born_of(pid))
        elif event == _EVENT_EXEC and is_far(pid):
            self.far.add(pid)
        if self.killing and pid not in self.far:
            kill(pid)
            return
        passed_on = 0 if event or number in (signal.SIGSTOP, signal.SIGTRAP) else number
        ptrace(_CONT, pid, 0, passed_on)

    def _called(self, pid: int) -> None:
        call = what_is_called(pid)
        if call is None:
            return
        self.seen += 1
        if self.seen != self.wanted:
            return
        self.at = call
        self.killing = self.every or pid in self.far
        for each in self.pids - self.far if self.killing else (pid,):
            kill(each)


def born_of(pid: int) -> int:
    """The process that `pid` has just created."""
    message = ctypes.c_ulong()
    ptrace(_GETEVENTMSG, pid, 0, ctypes.addressof(message))
    return message.value


def is_far(pid: int) -> bool:
    """Whether `pid` has just become a git server process."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word.split(b" ")[0] in _SERVERS for word in words)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def main() -> int:
    """Run the command line that the module's docstring describes."""
    wanted, mode, result, *command = sys.argv[1:]
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return 98
    # Orphans become children of this process, so that it waits for every process of the command.
    _LIBC.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    pid = os.fork()
    if pid == 0:
        become_traced(command)
    os.waitpid(pid, _WALL)
    if ptrace(_SETOPTIONS, pid, 0, _OPTIONS) < 0 or ptrace(_CONT, pid) < 0:
        return 98
    signal.alarm(int(SILENT_SECONDS))
    began = time.monotonic()
    tracer = Tracer(int(wanted), every=mode == "all")
    status = tracer.follow(pid)
    found = {
        "calls": tracer.seen,
        "at": tracer.at,
        "status": os.waitstatus_to_exitcode(status) if status >= 0 else None,
        "seconds": time.monotonic() - began,
    }
    Path(result).write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
