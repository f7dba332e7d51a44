//! The only place where an engine error becomes an exception.

use eventbraid_engine::{ConflictedCategory, ConflictedStream, Error, Expectation};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use std::io::ErrorKind;
use std::path::Path;

use crate::once::{Name, get_or_fill};
use crate::uuid::uuid_from_bytes;

/// The exception classes, which live in Python: there they have attributes and types.
pub(crate) mod exceptions {
    use pyo3::PyErrArguments;
    use pyo3::prelude::*;
    use pyo3::sync::PyOnceLock;
    use pyo3::types::PyType;

    use super::{first_import, imported_again};
    use crate::once::get_or_fill;

    /// Declare classes of `eventbraid.errors`.
    ///
    /// `import_exception!` of `pyo3` would keep the class that it finds first, for the life of the
    /// process. But a process may import the package again. For example, `coverage` imports it to
    /// find the modules that it measures, and then removes it from `sys.modules`. This module isn't
    /// loaded again with it, and an `except` of the second import doesn't catch the classes of the
    /// first one. So each exception has the class that the package has now.
    macro_rules! classes {
        ($($class:ident),* $(,)?) => {
            $(
                pub(crate) struct $class;

                impl $class {
                    pub(crate) fn new_err<A>(arguments: A) -> PyErr
                    where
                        A: PyErrArguments + Send + Sync + 'static,
                    {
                        Python::attach(|py| match Self::class(py) {
                            Ok(class) => PyErr::from_type(class, arguments),
                            Err(error) => error,
                        })
                    }

                    pub(crate) fn class(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
                        // The first class is also for the end of the interpreter, when
                        // `sys.modules` may be empty already.
                        static FIRST: PyOnceLock<Py<PyType>> = PyOnceLock::new();
                        if let Some(module) = imported_again(py) {
                            return Ok(module.getattr(stringify!($class))?.cast_into()?);
                        }
                        let find = || {
                            let class = first_import(py)?.getattr(stringify!($class))?;
                            Ok(class.cast_into::<PyType>()?.unbind())
                        };
                        Ok(get_or_fill(&FIRST, py, find)?.bind(py).clone())
                    }
                }
            )*

            /// Look up the classes during the import, because a fork could interrupt a later
            /// look-up; see `once`.
            pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
                $( $class::class(py)?; )*
                Ok(())
            }
        };
    }

    classes!(
        CorruptStore,
        EventDecodeError,
        EventbraidError,
        IdempotencyMismatch,
        IncompatibleFormat,
        InvalidArgument,
        InvalidEventType,
        InvalidStreamId,
        LimitExceeded,
        NotAStore,
        OutcomeUnknown,
        SharingUnsupported,
        StorageFull,
        StoreBusy,
        StoreClosed,
        StoreDetached,
        StorePoisoned,
        StoreUnavailable,
        VersionConflict,
    );
}
use exceptions as raise;

/// Look up the exception classes and the conditions during the import.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    loaded_modules(py)?;
    raise::prepare(py)?;
    Conditions::first(py).map(drop)
}

/// Return `sys.modules`, which is the same dictionary for the life of the process.
fn loaded_modules(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let find = || {
        let modules = py.import("sys")?.getattr("modules")?;
        Ok(modules.cast_into::<PyDict>()?.unbind())
    };
    Ok(get_or_fill(&MODULES, py, find)?.bind(py))
}

/// Return the module `eventbraid.errors` of the first import of the package.
fn first_import(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static FIRST: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let find = || Ok(py.import("eventbraid.errors")?.into_any().unbind());
    Ok(get_or_fill(&FIRST, py, find)?.bind(py))
}

/// Return the module `eventbraid.errors` that is loaded now, if it isn't that of the first import.
fn imported_again(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    static NAME: Name = Name::new("eventbraid.errors");
    let name = NAME.get(py).ok()?;
    let now = loaded_modules(py).ok()?.get_item(name).ok()??;
    (!now.is(first_import(py).ok()?)).then_some(now)
}

/// Return the exception for an engine error.
pub(crate) fn exception(py: Python<'_>, error: Error) -> PyErr {
    match error {
        Error::Closed => closed(),
        Error::CorruptStore {
            file,
            offset,
            reason,
        } => raise::CorruptStore::new_err((path_text(&file), offset, reason)),
        Error::Detached { path, reason } => {
            raise::StoreDetached::new_err((path_text(&path), reason))
        }
        Error::IdempotencyMismatch { key } => raise::IdempotencyMismatch::new_err((key,)),
        Error::IncompatibleFormat {
            path,
            found,
            supported,
        } => raise::IncompatibleFormat::new_err((path_text(&path), found, supported)),
        Error::InvalidArgument {
            what,
            value,
            reason,
        } => invalid(what, value, reason),
        Error::Io {
            path,
            operation,
            kind,
            code,
            reason,
        } => {
            let code = code.or_else(|| errno(kind));
            raise::StoreUnavailable::new_err((path_text(&path), operation, reason, code))
        }
        Error::LimitExceeded {
            what,
            actual,
            limit,
        } => raise::LimitExceeded::new_err((what, actual, limit)),
        Error::Moved { path, reason } => {
            let remedy = "nothing that was acknowledged is lost; move the store back, or close it \
                          and open it where it is now";
            raise::StoreDetached::new_err((path_text(&path), reason, remedy))
        }
        Error::NotAStore { path, reason } => raise::NotAStore::new_err((path_text(&path), reason)),
        Error::OutcomeUnknown { reason } => raise::OutcomeUnknown::new_err((reason,)),
        Error::Poisoned { reason } => raise::StorePoisoned::new_err((reason,)),
        Error::StorageFull { path, reason } => {
            raise::StorageFull::new_err((path_text(&path), reason))
        }
        Error::StoreBusy { path, holder } => raise::StoreBusy::new_err((path_text(&path), holder)),
        Error::Unshareable { path, reason } => {
            raise::SharingUnsupported::new_err((path_text(&path), reason))
        }
        Error::VersionConflict {
            failures,
            categories,
        } => conflict(py, &failures, &categories).unwrap_or_else(|error| error),
        other => raise::EventbraidError::new_err((other.to_string(),)),
    }
}

/// Return the exception for an append's error. For an unknown outcome, the exception contains the
/// facts with which the caller can determine the outcome.
pub(crate) fn append_exception(
    py: Python<'_>,
    error: Error,
    key: Option<&str>,
    event_ids: &[[u8; 16]],
) -> PyErr {
    match error {
        Error::OutcomeUnknown { reason } => {
            outcome_unknown(py, &reason, key, event_ids).unwrap_or_else(|error| error)
        }
        other => exception(py, other),
    }
}

/// Return the exception for a failure to open a store. For a full disk, the exception has a remedy
/// of its own.
pub(crate) fn open_exception(py: Python<'_>, error: Error) -> PyErr {
    let remedy = "nothing that was acknowledged is lost; free some space and open the store again";
    or_full(py, error, remedy)
}

/// Return the exception for a failure to close a store. For a full disk, the exception has a remedy
/// of its own.
pub(crate) fn close_exception(py: Python<'_>, error: Error) -> PyErr {
    let remedy = "the store is closed all the same and nothing that was acknowledged is lost; \
                  free some space before it is opened again";
    or_full(py, error, remedy)
}

fn or_full(py: Python<'_>, error: Error, remedy: &'static str) -> PyErr {
    match error {
        Error::StorageFull { path, reason } => {
            raise::StorageFull::new_err((path_text(&path), reason, remedy))
        }
        other => exception(py, other),
    }
}

/// Return the exception for an invalid argument. Its class depends on the kind of argument.
pub(crate) fn invalid<V>(what: &'static str, value: V, reason: String) -> PyErr
where
    V: for<'py> IntoPyObject<'py> + Send + Sync + 'static,
{
    match what {
        "stream" => raise::InvalidStreamId::new_err((what, value, reason)),
        "event type" => raise::InvalidEventType::new_err((what, value, reason)),
        _ => raise::InvalidArgument::new_err((what, value, reason)),
    }
}

/// Return the exception for a store that was closed.
pub(crate) fn closed() -> PyErr {
    raise::StoreClosed::new_err(())
}

/// Return the exception for an object that the parent process created before it forked this one.
pub(crate) fn forked() -> PyErr {
    raise::StoreClosed::new_err((
        "this was begun before the process was forked, with the parent's store; begin it again \
         in the child",
    ))
}

/// The Python values with which conflicts are reported. The members of `StreamCondition` are
/// compared by identity.
pub(crate) struct Conditions {
    pub(crate) any: Py<PyAny>,
    pub(crate) exists: Py<PyAny>,
    pub(crate) no_stream: Py<PyAny>,
    conflicted_stream: Py<PyAny>,
    conflicted_category: Py<PyAny>,
}

impl Conditions {
    /// The values that the first import of the package has.
    pub(crate) fn first(py: Python<'_>) -> PyResult<&Self> {
        static VALUES: PyOnceLock<Conditions> = PyOnceLock::new();
        get_or_fill(&VALUES, py, || Self::of(first_import(py)?))
    }

    /// The values that the package has now, if it was imported again.
    pub(crate) fn of_another_import(py: Python<'_>) -> PyResult<Option<Self>> {
        imported_again(py)
            .map(|module| Self::of(&module))
            .transpose()
    }

    fn of(errors: &Bound<'_, PyAny>) -> PyResult<Self> {
        let conditions = errors.getattr("StreamCondition")?;
        Ok(Self {
            any: conditions.getattr("ANY")?.unbind(),
            exists: conditions.getattr("EXISTS")?.unbind(),
            no_stream: conditions.getattr("NO_STREAM")?.unbind(),
            conflicted_stream: errors.getattr("ConflictedStream")?.unbind(),
            conflicted_category: errors.getattr("ConflictedCategory")?.unbind(),
        })
    }

    /// Return the Python value of an expectation.
    fn expected<'py>(
        &self,
        py: Python<'py>,
        expectation: Expectation,
    ) -> PyResult<Bound<'py, PyAny>> {
        Ok(match expectation {
            Expectation::Any => self.any.bind(py).clone(),
            Expectation::Exact(version) => version.into_pyobject(py)?.into_any(),
            Expectation::Exists => self.exists.bind(py).clone(),
            Expectation::NoStream => self.no_stream.bind(py).clone(),
        })
    }
}

fn conflict(
    py: Python<'_>,
    failures: &[ConflictedStream],
    categories: &[ConflictedCategory],
) -> PyResult<PyErr> {
    let another = Conditions::of_another_import(py)?;
    let conditions = another.as_ref().map_or_else(|| Conditions::first(py), Ok)?;
    let expected = |expectation| conditions.expected(py, expectation);
    let class = conditions.conflicted_stream.bind(py);
    let failures = failures
        .iter()
        .map(|one| class.call1((&one.stream, expected(one.expected)?, one.actual)))
        .collect::<PyResult<Vec<_>>>()?;
    let class = conditions.conflicted_category.bind(py);
    let categories = categories
        .iter()
        .map(|one| class.call1((&one.category, expected(one.expected)?, one.actual)))
        .collect::<PyResult<Vec<_>>>()?;
    let failures = PyTuple::new(py, failures)?.unbind();
    let categories = PyTuple::new(py, categories)?.unbind();
    Ok(raise::VersionConflict::new_err((failures, categories)))
}

fn outcome_unknown(
    py: Python<'_>,
    reason: &str,
    key: Option<&str>,
    event_ids: &[[u8; 16]],
) -> PyResult<PyErr> {
    let ids = event_ids
        .iter()
        .map(|id| uuid_from_bytes(py, *id))
        .collect::<PyResult<Vec<_>>>()?;
    let facts = PyDict::new(py);
    facts.set_item("idempotency_key", key)?;
    facts.set_item("event_ids", ids)?;
    let class = raise::OutcomeUnknown::class(py)?;
    Ok(PyErr::from_value(class.call((reason,), Some(&facts))?))
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

/// The error number that Python programs expect, for a failure that the engine itself detected.
fn errno(kind: ErrorKind) -> Option<i32> {
    use rustix::io::Errno;
    let number = match kind {
        ErrorKind::FileTooLarge => Errno::FBIG,
        ErrorKind::NotADirectory => Errno::NOTDIR,
        ErrorKind::NotFound => Errno::NOENT,
        ErrorKind::PermissionDenied => Errno::ACCESS,
        ErrorKind::ReadOnlyFilesystem => Errno::ROFS,
        _ => return None,
    };
    Some(number.raw_os_error())
}
