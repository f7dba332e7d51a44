"""Names and texts beyond ASCII are compared rightly, whatever ran before in the process.

msgspec compares the keys of JSON with the UTF-8 form that a str object caches, and a
new process has cached none. So each case is written in one process and read in another,
in which nothing else has touched the names.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

DECLARATIONS = """
from __future__ import annotations
import dataclasses, enum, os, sys
from typing import Any, Literal, NamedTuple, TypedDict
import attrs, msgspec, pydantic
import eventbraid as eb

class Money(eb.Int, ge=0): ...
class Größe(enum.Enum):
    KLEIN = "kleiñ"
    GROß = "groß"
@eb.value_object
class Adresse:
    straße: str | None = None
    ﬁrma: str = ""
@eb.value_object(tag="kärte")
class Karte:
    nummer: int = 0
@eb.value_object
class Überweisung:
    währung: str = ""
class Verzeichnis(TypedDict, total=False):
    schlüssel: int
class Paar(NamedTuple):
    erstes: int = 0
    ñ: str = ""
class Struktur(msgspec.Struct, frozen=True):
    maß: int = 0
    other: int = msgspec.field(default=0, name="ümbenannt")
class Märke(msgspec.Struct, frozen=True, tag="märke", tag_field="ärt"):
    zahl: int = 0
class Zeichen(msgspec.Struct, frozen=True, tag="zeiçhen", tag_field="ärt"):
    zahl: int = 0
@attrs.frozen
class Attribut:
    höhe: int = 0
    _tiefe: int = 0
@dataclasses.dataclass
class Lose:
    läge: int = 0
class Modell(pydantic.BaseModel):
    zähler: int = 0
"""

CASES = {
    "a number": ("int", "5", "0"),
    "a value": ("Adresse", "Adresse('Ring 1', 'X')", "Adresse()"),
    "values in a tuple": ("tuple[Adresse, ...]", "(Adresse('Ring 1'),)", "()"),
    "an enum": ("Größe", "Größe.GROß", "Größe.KLEIN"),
    "a literal": ("Literal['ä', 'ö', 'z']", "'ö'", "'z'"),
    "a tag": ("Karte | Überweisung", "Karte(5)", "Überweisung()"),
    "a class with a tag": ("Karte | Überweisung", "Überweisung('€')", "Karte()"),
    "a typed dict": ("Verzeichnis", "{'schlüssel': 5}", "{}"),
    "a named tuple": ("Paar", "Paar(5, 'x')", "Paar()"),
    "a struct": ("Struktur", "Struktur(5, 6)", "Struktur()"),
    "tagged structs": ("Märke | Zeichen", "Zeichen(5)", "Märke()"),
    "an attrs class": ("Attribut", "Attribut(5, 6)", "Attribut()"),
    "a dataclass": ("Lose", "Lose(5)", "Lose()"),
    "a model": ("Modell", "Modell(zähler=5)", "Modell()"),
    "a mapping": ("dict[str, Adresse]", "{'ü': Adresse('Ring 1')}", "{}"),
    "a mapping by an enum": ("dict[Größe, int]", "{Größe.GROß: 5}", "{}"),
    "plain JSON": ("Any", "{'ü': 'ö'}", "None"),
}


def classes():
    """Declare a class per case, with a field whose name is not ASCII."""
    parts = [DECLARATIONS]
    for number, (annotation, _, default) in enumerate(CASES.values()):
        parts.append(f"""
@eb.event("test_field_names.{number}")
class Ereignis{number}:
    gemeldet: int = 0
    größe: {annotation} = dataclasses.field(default_factory=lambda: {default})
""")
    return "".join(parts)


PROGRAM = (
    classes()
    + """
with eb.open(sys.argv[1]) as store:
    if sys.argv[2] == "write":
        for number, value in enumerate(sys.argv[3:]):
            made = globals()[f"Ereignis{number}"](größe=eval(value))
            store.append([eb.new_event(f"case-{number}", made)])
        sys.exit()
    events = list(store.read_all())
for recorded in events:  # In a process of its own, so that no case helps another one.
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        try:
            print(ascii(eb.decode_event(recorded).größe))
        except eb.errors.EventDecodeError as error:
            print(error)
        sys.stdout.flush()
        os._exit(0)
"""
)


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-X", "utf8", "-c", PROGRAM, *map(str, arguments)],
        capture_output=True,
        check=True,
        encoding="utf-8",
        timeout=120,
    ).stdout


@pytest.fixture(scope="module")
def read_back(tmp_path_factory):
    location = tmp_path_factory.mktemp("names") / "names.braid"
    run(location, "write", *(value for _, value, _ in CASES.values()))
    return run(location, "read").splitlines()


@pytest.mark.parametrize("number", range(len(CASES)), ids=list(CASES))
def test_a_field_keeps_its_value_in_a_new_process(read_back, number):
    namespace: dict[str, object] = {"__name__": __name__}
    exec(DECLARATIONS, namespace)
    value = list(CASES.values())[number][1]
    expected = ascii(eval(value, namespace))
    assert read_back[number] == expected
