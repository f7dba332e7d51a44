"""Registries of event types: classes by name and version, upcasters, former names."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from eventbraid._event_types import set_default
from eventbraid.domain._annotation import is_defined_again
from eventbraid.domain._tag import set_tag
from eventbraid.errors import InvalidArgument, InvalidEventType
from eventbraid.event._body_codec import BodyCodecs
from eventbraid.event._codec import codec_of
from eventbraid.event._event_type import EventType
from eventbraid.event._version_graph import problems_of, sources_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from eventbraid.event._body_codec import BodyCodec
    from eventbraid.event._upcasting import Upcaster

T = TypeVar("T")

_library_packages: dict[str, str] = {}
"""The packages of the library that define events, by the prefix of their types."""


class EventRegistry:
    """The event classes of an application, with their upcasters and former names.

    Every function that takes a registry uses the default one if none is given, so most
    programs never name a registry. Two applications in one process, or a test, have
    registries of their own: pass ``registry=`` to `event`, `register_event` and
    `upcaster` where the events are defined, and to `open`, where the store is opened.
    The executors and sagas of the store then use it, too.

    The events of the library itself, such as those of sagas, are readable by every
    registry.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.event import EventRegistry
        >>> shop = EventRegistry()
        >>> @eb.event("doc.parcel.sent", registry=shop)
        ... class ParcelSent:
        ...     grams: int
        >>> shop.seal()
        >>> with eb.open("memory:", registry=shop) as store:
        ...     sent = eb.new_event("parcel-1", ParcelSent(250), registry=shop)
        ...     done = store.append([sent])
        ...     [raw] = store.read_stream("parcel-1")
        >>> eb.decode_event(raw, registry=shop)
        ParcelSent(grams=250)
    """

    __slots__ = (
        "_body_codec",
        "_by_kind",
        "_by_name",
        "_by_place",
        "_derived",
        "_formerly",
        "_has_refused_types",
        "_is_sealed",
        "_is_valid",
        "_upcasters",
        "codecs",
        "generation",
    )

    def __init__(self) -> None:
        """Begin with no event types.

        Attributes:
            generation: It increases whenever a recorded event may be decoded
                differently from then on: when a class or an upcaster replaces another
                one or an upcaster is added, and when a class is added after a reader
                has continued without an event of an unknown type. Caches of decoded
                events, and of what was folded from them, are valid for one generation.
            codecs: The codecs with which encoded bodies are decoded.
        """
        self.generation = 0
        self.codecs = BodyCodecs()
        self._body_codec: BodyCodec | None = None
        self._by_kind: dict[type, EventType] = {}
        # Also has the former names of a type, so that an event that was recorded under
        # one of them is found as quickly as any other.
        self._by_name: dict[tuple[str, int], EventType] = {}
        # By module and qualified name, to find the class that a class replaces when its
        # module or its notebook's cell is run again.
        self._by_place: dict[tuple[str, str], EventType] = {}
        self._formerly: dict[str, str] = {}
        self._upcasters: dict[tuple[str, int], Upcaster] = {}
        self._is_sealed = False
        self._is_valid = True
        self._has_refused_types = False
        self._derived: dict[object, Any] = {}

    def __repr__(self) -> str:
        count = sum(1 for _ in self.types())
        state = ", sealed" if self._is_sealed else ""
        return f"<EventRegistry: event types {count}{state}>"

    # --- registration

    def add(
        self,
        kind: type,
        name: str,
        version: int,
        formerly: Iterable[str] = (),
        oldest_version: int = 1,
        codec: BodyCodec | None = None,
    ) -> None:
        """Register a class under a name and a version; `event` calls this.

        Args:
            kind: The class.
            name: The event type.
            version: The version of the class's schema.
            formerly: Former names of the event type.
            oldest_version: The lowest version that the log may contain.
            codec: The codec of the bodies of new events; by default, the codec that
                `use_codec` has set.

        Raises:
            InvalidEventType: The name is taken, the class has one, or the registry is
                sealed.
            InvalidArgument: The codec isn't one, or another one has its id.
        """
        self._refuse_sealed(name)
        if codec is not None:
            codec = self._add_codec(codec)
        _load_library_package(name, unless_within=kind.__module__)
        formerly = (*formerly,)
        self._refuse_second_name(kind, name, version)
        replaced = self._replaced_by(kind, name, version, formerly)
        self._refuse_ambiguous_names(name, formerly, replaced)
        self._refuse_second_class(kind, name, version)
        self._refuse_class_and_upcaster(kind.__qualname__, name, version)
        class_codec = codec_of(kind)
        for old in replaced:
            # An instance of a replaced class is refused from now on: the class that
            # reads the event type has other fields.
            self._remove(old)
        set_tag(kind, name if version == 1 else f"{name}@{version}")
        found = self._with_codec(
            EventType(name, version, kind, class_codec, oldest_version), codec
        )
        self._by_kind[kind] = found
        self._by_place[kind.__module__, kind.__qualname__] = found
        self._formerly.update(dict.fromkeys(formerly, name))
        self._add_names(found, is_renamed=bool(formerly))
        self._is_valid = False
        self._forget_derived()
        if replaced or self._has_refused_types:
            self._has_refused_types = False
            self.generation += 1

    def add_upcaster(self, upcaster: Upcaster) -> None:
        """Register an upcaster; the decorator `upcaster` calls this.

        Raises:
            InvalidEventType: The version has another upcaster or a class, or the
                registry is sealed.
        """
        name, version = upcaster.source
        self._refuse_sealed(name)
        known = self._upcasters.get(upcaster.source)
        if known is not None and not upcaster.is_redefinition_of(known):
            raise InvalidEventType(
                "upcaster",
                upcaster.name,
                f"{known.name} already upcasts version {version} of {name!r}; remove "
                "one of them",
            )
        read = self._by_name.get(upcaster.source)
        if read is not None:
            raise InvalidEventType(
                "upcaster",
                upcaster.name,
                f"the class {read.kind.__qualname__} is registered as version "
                f"{version} of {name!r}, so no event of it would be upcast; increase "
                "the version of the class, or remove the upcaster",
            )
        self._upcasters[upcaster.source] = upcaster
        self._is_valid = False
        self._forget_derived()
        # A cached event may have been decoded without this upcaster.
        self.generation += 1

    def note_refused_type(self) -> None:
        """Note that a reader continues without an event whose type is unknown.

        What it caches has to be dropped when the type is registered after all.
        """
        self._has_refused_types = True

    def add_codec(self, codec: BodyCodec, *, replace: bool = False) -> None:
        """Add a codec for reading: events that it encoded can be decoded.

        A sealed registry accepts codecs, because keys are rotated while programs run.

        Args:
            codec: The codec.
            replace: Whether it replaces another codec with the same id.

        Raises:
            InvalidArgument: It isn't a codec, or another one has its id.
        """
        self._add_codec(codec, replace=replace)

    def use_codec(self, codec: BodyCodec | None) -> None:
        """Encode the bodies of new events with a codec, and add it for reading.

        It is used for all event types that were registered without a codec of their
        own, before and after this call. Records of leases and sagas, which are the
        library's own events, are never encoded.

        Args:
            codec: The codec; None if new events aren't to be encoded.

        Raises:
            InvalidArgument: It isn't a codec, or another one has its id.
        """
        self._body_codec = None if codec is None else self._add_codec(codec)
        changed = {
            id(known): self._with_codec(
                known, known.body_codec if known.has_own_codec else None
            )
            for known in self._by_kind.values()
        }
        # Another thread may look up a type meanwhile, so entries are replaced one by
        # one, and none is ever missing.
        for types in (self._by_kind, self._by_name, self._by_place):
            self._replace_types(types, changed)
        self._forget_derived()

    def _add_codec(self, codec: BodyCodec, *, replace: bool = False) -> BodyCodec:
        if self.codecs.add(codec, replace=replace):
            # A reader may have continued without an event that this codec decodes.
            self.generation += 1
        return codec

    @staticmethod
    def _replace_types(
        types: dict[Any, EventType], changed: Mapping[int, EventType]
    ) -> None:
        for key, known in list(types.items()):
            types[key] = changed.get(id(known), known)

    def _with_codec(self, known: EventType, own: BodyCodec | None) -> EventType:
        """Return a type with its own codec, or else with the codec of the registry."""
        used = own
        if own is None and not _is_of_library(known):
            used = self._body_codec
        return replace(
            known,
            body_codec=used,
            has_own_codec=own is not None,
            is_plain=known.version == 1 and used is None,
        )

    def seal(self) -> None:
        """Validate the registry, and refuse all later registrations.

        Call it where the application has imported all its events, for example before it
        starts its workers. Sealing is optional: `open` validates the registry as well.

        Raises:
            InvalidEventType: As `validate` does.
        """
        self.validate()
        self._is_sealed = True

    @property
    def is_sealed(self) -> bool:
        """Whether later registrations are refused."""
        return self._is_sealed

    def validate(self) -> None:
        """Check that every version of every event type can be read.

        `open` calls this method, so that a mistake is found before a store is used.

        Raises:
            InvalidEventType: A version between the oldest and the newest has neither a
                class nor an upcaster, or has both; or upcasters form a cycle.
        """
        if self._is_valid:
            return
        problems = self.problems()
        if problems:
            name, reason = problems[0]
            more = len(problems) - 1
            rest = f" (and {more} more: {_names(problems[1:])})" if more else ""
            raise InvalidEventType("event type", name, f"{reason}{rest}")
        self._is_valid = True

    def problems(self) -> list[tuple[str, str]]:
        """Return what `validate` would refuse, as pairs of an event type and a reason.

        Example:
            >>> import eventbraid as eb
            >>> from eventbraid.event import EventRegistry
            >>> shop = EventRegistry()
            >>> @eb.event("doc.parcel.weighed", version=2, registry=shop)
            ... class ParcelWeighed:
            ...     grams: int
            >>> [(name, reason)] = shop.problems()
            >>> name, reason.partition(";")[0]
            ('doc.parcel.weighed', "version 1 can't be read: it has neither ...")
        """
        return problems_of(self.types(), self._upcasters, self._formerly)

    # --- look-up

    def of_class(self, kind: type) -> EventType:
        """Return the type under which a class is registered.

        Raises:
            InvalidArgument: The class isn't registered.
        """
        found = self._by_kind.get(kind)
        if found is None:
            found = self._library_type_of(kind)
            if found is None:
                raise InvalidArgument("event", kind.__qualname__, self._remedy(kind))
        return found

    def find(self, name: str, version: int) -> EventType | None:
        """Return the type with this name, or former name, and this version, if any."""
        found = self._by_name.get((name, version))
        if found is None and _load_library_package(name):
            found = self._by_name.get((name, version))
            if found is None and self is not default_registry:
                found = default_registry.find(name, version)
                if found is not None:
                    # The next event of this type is found at once.
                    self._by_name[name, version] = found
        return found

    def has(self, kind: type) -> bool:
        """Return whether the class is registered."""
        return kind in self._by_kind

    def types(self) -> Iterator[EventType]:
        """Iterate over the application's event types, without the library's own."""
        for found in list(self._by_kind.values()):
            if not _is_of_library(found):
                yield found

    def upcaster(self, name: str, version: int) -> Upcaster | None:
        """Return the upcaster of a version of an event type, if there is one."""
        upcasters = self._upcasters
        if not upcasters:
            return None
        found = upcasters.get((name, version))
        if found is None and name in self._formerly:
            found = upcasters.get((self._formerly[name], version))
        if found is None:
            # The upcaster may have been registered under a name that the type had then.
            for former, current in self._formerly.items():
                if current == name and (former, version) in upcasters:
                    return upcasters[former, version]
        return found

    @property
    def upcasters(self) -> Mapping[tuple[str, int], Upcaster]:
        """The upcasters, by the event type and version that they read."""
        return self._upcasters

    @property
    def former_names(self) -> Mapping[str, str]:
        """The event type that each former name stands for now."""
        return self._formerly

    def versions_of(self, name: str) -> list[int]:
        """Return the versions of an event type that can be read, in order."""
        name = self._formerly.get(name, name)
        names = {name, *(old for old, new in self._formerly.items() if new == name)}
        keys = (*self._by_name, *self._upcasters)
        return sorted({version for one, version in keys if one in names})

    def names_read_as(self, kinds: Iterable[type]) -> set[str]:
        """Return the recorded types whose events may be decoded to one of the classes.

        Raises:
            InvalidArgument: A class isn't registered.
        """
        wanted = {(found.name, found.version) for found in map(self.of_class, kinds)}
        return sources_of(wanted, self._upcasters, self._formerly)

    def derived(self, key: object, make: Callable[[], T]) -> T:
        """Return a value that depends on the registered types, and make it only once.

        It is made again after a class or an upcaster was registered, or the codec of
        the registry was changed.

        Args:
            key: The key of the value.
            make: Makes the value.
        """
        # The dictionary is looked up first: if the types change while `make` runs, the
        # value gets into a dictionary that isn't used any more.
        values = self._derived
        if key not in values:
            values[key] = make()
        found: T = values[key]
        return found

    def _forget_derived(self) -> None:
        """Drop the derived values, after the types have changed."""
        self._derived = {}

    def _library_type_of(self, kind: type) -> EventType | None:
        if self is default_registry:
            return None
        found = default_registry._by_kind.get(kind)
        if found is None or not _is_of_library(found):
            return None
        self._by_kind[kind] = found
        return found

    def _add_names(self, found: EventType, *, is_renamed: bool) -> None:
        """Make a class readable under its name and under the former names."""
        self._by_name[found.name, found.version] = found
        if not self._formerly:
            return
        # Former names that this class adds are also those of its other versions.
        kinds = [*self._by_kind.values()] if is_renamed else [found]
        own = [one for one in kinds if one.name == found.name]
        for former, name in self._formerly.items():
            if name == found.name:
                self._by_name.update({(former, one.version): one for one in own})

    def _remedy(self, kind: type) -> str:
        if any(_is_redefinition(known, kind) for known in self._by_kind):
            return (
                "its class was replaced when the class was defined again; make the "
                "event with the new class"
            )
        if self is not default_registry and default_registry.has(kind):
            return (
                "its class is registered in the default registry, but not in the one "
                "that is used here; define it with registry=..."
            )
        return (
            "its class is not registered; decorate it with "
            '@event("its.name") or @register_event("its.name"), or give the registry '
            "that has it: registry=..."
        )

    def _refuse_sealed(self, name: str) -> None:
        if self._is_sealed:
            raise InvalidEventType(
                "event type",
                name,
                "the registry is sealed; import the module that registers it before "
                "the call of seal()",
            )

    def _refuse_second_name(self, kind: type, name: str, version: int) -> None:
        known = self._by_kind.get(kind)
        if known is not None and (known.name, known.version) != (name, version):
            raise InvalidEventType(
                "event type",
                name,
                f"{kind.__qualname__} is already registered as {known.name!r} "
                f"version {known.version}; make another class",
            )

    def _replaced_by(
        self, kind: type, name: str, version: int, formerly: tuple[str, ...]
    ) -> list[EventType]:
        """Return the types that a class replaces because it was defined again."""
        same_name = self._by_name.get((name, version))
        same_place = self._by_place.get((kind.__module__, kind.__qualname__))
        found: list[EventType] = []
        for known in (same_name, same_place):
            if (
                known is not None
                and known not in found
                and (known.name == name or known.name in formerly)
                and is_defined_again(known.kind, kind)
            ):
                found.append(known)
        return found

    def _remove(self, old: EventType) -> None:
        del self._by_kind[old.kind]
        # Compared by class: `use_codec` replaces the entries of the tables.
        keys = [key for key, one in self._by_name.items() if one.kind is old.kind]
        for key in keys:
            del self._by_name[key]

    def _refuse_second_class(self, kind: type, name: str, version: int) -> None:
        known = self._by_name.get((name, version))
        if known is None or _is_redefinition(known.kind, kind):
            return
        raise InvalidEventType(
            "event type",
            name,
            f"{known.kind.__module__}.{known.kind.__qualname__} is already registered "
            f"as its version {version}, so {kind.__module__}.{kind.__qualname__} "
            "can't be; choose another name, or the next version",
        )

    def _refuse_class_and_upcaster(self, kind: str, name: str, version: int) -> None:
        known = self._upcasters.get((name, version))
        if known is not None:
            raise InvalidEventType(
                "event type",
                name,
                f"the upcaster {known.name} reads its version {version}, so the class "
                f"{kind} can't; increase the version of the class, or remove the "
                "upcaster",
            )

    def _refuse_ambiguous_names(
        self, name: str, formerly: tuple[str, ...], replaced: list[EventType]
    ) -> None:
        current = self._formerly.get(name)
        if current is not None:
            raise InvalidEventType(
                "event type",
                name,
                f"it is a former name of {current!r}; choose another name, or remove "
                "it from formerly=",
            )
        if not formerly:
            return
        types = (one for one in self._by_kind.values() if one not in replaced)
        own = {one.name for one in types}
        for former in formerly:
            if former in own:
                raise InvalidEventType(
                    "former name",
                    former,
                    f"a class is registered under it, so it can't be a former name of "
                    f"{name!r}; remove it from formerly=, or rename that class",
                )
            current = self._formerly.get(former, name)
            if current != name:
                raise InvalidEventType(
                    "former name",
                    former,
                    f"it is a former name of {current!r} already, so it can't be one "
                    f"of {name!r}; remove one of them",
                )


def checked_registry(registry: object) -> EventRegistry:
    """Return a registry that a caller has given.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(registry, EventRegistry):
        raise TypeError(
            f"registry must be an EventRegistry, not {type(registry).__name__}"
        )
    return registry


def defer(prefix: str, package: str) -> None:
    """Import a package of the library when a type that it registers is asked for.

    Args:
        prefix: How the names of the package's event types begin.
        package: The package's full name.
    """
    _library_packages[prefix] = package


def _load_library_package(name: str, *, unless_within: str = "") -> bool:
    """Import the package of the library that registers event types with such a name.

    `import_module` is called again for a loaded package: another thread may be in the
    middle of its import, and only this call waits for that to end.

    Args:
        name: The name of an event type.
        unless_within: A module; nothing is done if it belongs to the package.

    Returns:
        Whether there is such a package.
    """
    for prefix, package in _library_packages.items():
        if name.startswith(prefix):
            if not f"{unless_within}.".startswith(f"{package}."):
                import_module(package)
            return True
    return False


def _is_of_library(found: EventType) -> bool:
    """Return whether a type is one of the library's own."""
    return any(
        found.name.startswith(prefix)
        and f"{found.kind.__module__}.".startswith(f"{package}.")
        for prefix, package in _library_packages.items()
    )


def _names(problems: Iterable[tuple[str, str]]) -> str:
    return ", ".join(sorted({name for name, _ in problems}))


def _is_redefinition(known: type, kind: type) -> bool:
    """Return whether a module or a notebook's cell was run again."""
    return known is kind or is_defined_again(known, kind)


default_registry = EventRegistry()
"""The registry that is used where no other is given."""

set_default(default_registry)
