"""The exception tree. Every message says what was given, what was expected, and the fix.

::

    MmretrieveError
    ├── UsageError            a value that cannot be used            exit code 2
    │   └── PruneRefusedError     nothing is left where videos were
    ├── SetupError            the installation or the index          exit code 4
    │   ├── MissingExtraError     an optional package is not installed
    │   ├── WeightsError          model weights are absent or altered
    │   ├── EndpointError         a model server cannot be used
    │   ├── EncoderPluginError    an encoder of another package cannot be used
    │   └── IndexFolderError      the index folder cannot be used
    │       ├── IndexNotFoundError
    │       ├── IndexFormatError      foreign, newer, or damaged
    │       ├── IndexLockedError      another writer is at work
    │       ├── PresetMismatchError   built with other encoders
    │       ├── CodesError            token codes cannot be written
    │       ├── BackupError           a backup cannot be made
    │       └── IndexWriteError       no space, a failing disk, no rights
    ├── StoppedError          the run was stopped; nothing is recorded
    └── InputError            one input file                        recorded, the run goes on
        ├── MediaError            cannot be opened or decoded
        ├── SidecarError          a file beside the video cannot be read
        └── WorkerError           the process that read it did not end well
            ├── TimeLimitError        it took too long
            ├── MemoryLimitError      it took too much memory
            └── WorkerCrashError      it died, or sent what cannot be
"""

from __future__ import annotations


class MmretrieveError(Exception):
    """Base of all errors that this package raises on purpose."""


class UsageError(MmretrieveError):
    """An argument that cannot be used as given."""


class PruneRefusedError(UsageError):
    """Pruning would remove all that the index knows below a folder, which looks like an absent disk."""


class SetupError(MmretrieveError):
    """The installation or the index does not allow the operation."""


class MissingExtraError(SetupError):
    """An optional dependency is needed; the message has the command that installs it."""


class WeightsError(SetupError):
    """Model weights are absent or do not have the expected checksum."""


class EndpointError(SetupError):
    """A server that offers a model cannot be reached, refuses, or answers with something else."""


class EncoderPluginError(SetupError):
    """A preset that another package adds cannot be imported, or takes a name that is taken."""


class IndexFolderError(SetupError):
    """The index folder cannot be used."""


class IndexNotFoundError(IndexFolderError):
    """No index at the given place."""


class IndexFormatError(IndexFolderError):
    """The folder is no index, or one of a newer format, or damaged."""


class IndexLockedError(IndexFolderError):
    """Another process is writing to the index."""


class PresetMismatchError(IndexFolderError):
    """The index was built with other encoders than the ones asked for."""


class CodesError(IndexFolderError):
    """Token codes cannot be written. They are derived from the index, which holds without them."""


class StoppedError(MmretrieveError):
    """The run was stopped while this was under way; it says nothing about the file."""


class BackupError(IndexFolderError):
    """A backup cannot be made here, or what it copied is not sound."""


class IndexWriteError(IndexFolderError):
    """The index cannot be written to. What was committed before holds."""


class InputError(MmretrieveError):
    """One input file cannot be used; the run goes on without it."""


class MediaError(InputError):
    """A media file cannot be opened or decoded."""


class SidecarError(InputError):
    """A file beside a video (subtitles, info.json) cannot be read."""


class WorkerError(InputError):
    """The process that read a file was stopped or died; another try may fare better."""


class TimeLimitError(WorkerError):
    """Reading a file took longer than it may."""


class MemoryLimitError(WorkerError):
    """Reading a file took more memory than it may."""


class WorkerCrashError(WorkerError):
    """The process that read a file died, or sent what cannot be."""
