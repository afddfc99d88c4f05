"""`render apiserver-flags`: the flags of kube-apiserver, as its manifest, a unit or a person takes them."""

from typing import Any

from mirror.federation.render.apiserver import Stage, comments, flags, notes, stages
from mirror.federation.render.base import Kind, Rendered, Request, Step, made_by

_MANIFEST = "Put them into `command` of each kube-apiserver's manifest, in place of the flags of the same names."
_SHELL = "Put them into the command line of each kube-apiserver, in place of the flags of the same names."


def _words(request: Request, stage: Stage) -> list[str]:
    return [f"--{name}={value}" for name, value in flags(request, stage)]


def _comments(request: Request, how: str) -> tuple[str, ...]:
    return (made_by("apiserver-flags", request), how, *comments(request))


def _yaml(request: Request) -> Rendered:
    told = stages(request)
    steps = tuple(Step(each.comments, _words(request, each)) for each in told)
    value: Any = steps if len(steps) > 1 else steps[0]
    return Rendered("yaml", value, _comments(request, _MANIFEST), notes(request))


def _json(request: Request) -> Rendered:
    told = stages(request)
    value: Any = [{"step": list(each.comments), "flags": _words(request, each)} for each in told]
    if len(told) == 1:
        value = value[0]["flags"]
    return Rendered("json", value, notes=(*_comments(request, _MANIFEST)[1:], *notes(request)))


def _shell(request: Request) -> Rendered:
    commands = tuple(Step(each.comments, ("kube-apiserver", *_words(request, each))) for each in stages(request))
    return Rendered("shell", commands, _comments(request, _SHELL), notes(request))


KIND = Kind(
    "apiserver-flags",
    "The flags of every kube-apiserver of the issuer; with --rotation the three steps of a key's rotation.",
    {"yaml": _yaml, "shell": _shell, "json": _json},
)
