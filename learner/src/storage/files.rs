//! Atomic file writes: a reader finds either the old content or the new content, and always all of it.
//!
//! New content is written to a temporary file with a unique name in the same folder, and forced to the disk. A rename
//! puts it in place, and an fsync of the folder makes the rename durable.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, Write},
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};

/// Extension of a temporary file's name. A killed process may leave one behind.
const TEMPORARY: &str = ".tmp";
/// Mode of a new file before the process's umask, as in the standard library.
const PLAIN: u32 = 0o666;
/// Places of files that a process has open.
const OPEN_FILES: [&str; 4] = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];
/// Bytes of a file's name that its temporary file's name repeats, so that the whole name stays within file systems'
/// limits.
const REPEATED: usize = 200;

/// Writes a file atomically. A path that is not a regular file, such as `/dev/stdout`, is written in place.
///
/// # Errors
///
/// Returns an error of the file system; the old content remains then.
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    match DraftPlace::find(path)? {
        DraftPlace::Device(mut device) => device.write_all(bytes.as_ref()),
        DraftPlace::File(path) => replace(&path, |file| file.write_all(bytes.as_ref())),
    }
}

/// Creates a folder with its parents unless it exists, and checks that files can be written there.
///
/// # Errors
///
/// Returns an error of the file system.
pub(crate) fn writable_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    tempfile::tempfile_in(path).map(drop)
}

/// Writes a file that does not exist yet, with this mode before the umask.
///
/// # Errors
///
/// Returns an error when the file exists, or an error of the file system; nothing is changed then.
pub(crate) fn write_new(path: &Path, bytes: impl AsRef<[u8]>, mode: u32) -> io::Result<()> {
    let folder = File::open(folder_of(path))?;
    let mut temporary = temporary(path, mode)?;
    temporary.as_file_mut().write_all(bytes.as_ref())?;
    temporary.as_file().sync_all()?;
    temporary.persist_noclobber(path).map_err(|e| e.error)?;
    folder.sync_all()
}

/// Returns the name of the file to which a temporary file of [`write()`] belongs, and `None` for any other name.
pub(crate) fn temporary_of(name: &OsStr) -> Option<&str> {
    let inner = name.to_str()?.strip_prefix('.')?.strip_suffix(TEMPORARY)?;
    Some(inner.rsplit_once('.')?.0)
}

/// Content that is written in pieces and put in place when it is complete. Until then it has no name, so a killed
/// process leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Draft {
    content: File,
    /// `None` for a device, which is written in place.
    place: Option<PathBuf>,
}

impl Draft {
    /// Starts a file.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be written.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        Ok(match DraftPlace::find(path)? {
            DraftPlace::Device(content) => Self {
                content,
                place: None,
            },
            DraftPlace::File(path) => Self {
                content: tempfile::tempfile_in(folder_of(&path))?,
                place: Some(path),
            },
        })
    }

    /// Puts the content in place.
    ///
    /// # Errors
    ///
    /// Returns an error of the file system; the old content remains then.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        let Some(place) = &self.place else {
            return self.content.flush();
        };
        self.content.rewind()?;
        replace(place, |file| io::copy(&mut self.content, file).map(drop))
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.content.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.content.flush()
    }
}

/// The target of a path.
enum DraftPlace {
    /// A device, a pipe or an open file of this process; content is appended.
    Device(File),
    /// A regular or new file, after all links are followed.
    File(PathBuf),
}

impl DraftPlace {
    /// Rejects what a plain write would reject: folders and files without write permission.
    fn find(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        match fs::metadata(path) {
            Ok(metadata) => {
                let open = OpenOptions::new().append(true).open(path)?;
                // An open file of this process, such as its standard output, must not be replaced.
                let is_open = OPEN_FILES.iter().any(|folder| path.starts_with(folder));
                Ok(match metadata.is_file() && !is_open {
                    true => Self::File(fs::canonicalize(path)?),
                    false => Self::Device(open),
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::File(path.to_owned()))
            }
            Err(error) => Err(error),
        }
    }
}

/// Replaces a file with the output of `write`; the mode stays the same.
fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    // Opened first, because errors must occur before the file is in place.
    let folder = File::open(folder_of(path))?;
    let mut temporary = temporary(path, PLAIN)?;
    if let Ok(old) = fs::metadata(path) {
        temporary.as_file().set_permissions(old.permissions())?;
    }
    write(temporary.as_file_mut())?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|e| e.error)?;
    folder.sync_all()
}

/// Creates a file beside `path` that is removed unless it is put in place.
fn temporary(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let Some(name) = path.file_name() else {
        let reason = "it names no file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    };
    let name = name.as_bytes();
    let mut prefix = OsString::from(".");
    prefix.push(OsStr::from_bytes(&name[..name.len().min(REPEATED)]));
    prefix.push(".");
    Builder::new()
        .prefix(&prefix)
        .suffix(TEMPORARY)
        .make_in(folder_of(path), |path| {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(path)
        })
}

/// Returns the folder of a file; a bare name is in the current folder.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Adds the file's name in front of an error.
pub(crate) fn naming(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.display().to_string();
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}

/// Appends all of `bytes` or nothing, for example on a full disk. Lines after a torn line could not be read.
pub(crate) fn append_whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(bytes).inspect_err(|_| {
        // The first error is the one to report.
        let _ = file.set_len(before);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a file").permissions().mode() & 0o777
    }

    fn drafted(path: &Path, text: &str) -> io::Result<()> {
        let mut draft = Draft::new(path)?;
        draft.write_all(text.as_bytes())?;
        draft.commit()
    }

    #[test]
    fn a_write_leaves_only_its_file_with_the_mode_of_a_plain_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("plain"), "").expect("a file");
        // A name that a temporary file might have.
        fs::write(at("a b.tmp"), "somebody else's").expect("a file");
        for text in ["first", "second"] {
            write(&at("a b.json"), text).expect("room");
            drafted(&at("draft"), text).expect("room");
            assert_eq!(fs::read_to_string(at("a b.json")).expect("there"), text);
            assert_eq!(fs::read_to_string(at("draft")).expect("there"), text);
        }
        assert_eq!(
            names(folder.path()),
            ["a b.json", "a b.tmp", "draft", "plain"]
        );
        let other = fs::read_to_string(at("a b.tmp")).expect("there");
        assert_eq!(other, "somebody else's");
        assert_eq!(mode(&at("a b.json")), mode(&at("plain")));
        assert_eq!(mode(&at("draft")), mode(&at("plain")));

        fs::set_permissions(at("draft"), fs::Permissions::from_mode(0o640)).expect("ours");
        drafted(&at("draft"), "third").expect("room");
        assert_eq!(mode(&at("draft")), 0o640, "a file keeps its mode");
        write(&at(&"long".repeat(60)), "").expect("names of 240 bytes are names");
    }

    #[test]
    fn a_link_stays_and_its_target_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").expect("a file");
        symlink("file", &link).expect("a link");
        write(&link, "new").expect("room");
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&file).expect("there"), "new");
    }

    #[test]
    fn devices_are_written_in_place() {
        write(Path::new("/dev/null"), "gone").expect("it takes everything");
        drafted(Path::new("/dev/null"), "gone").expect("it takes everything");
        let full = write(Path::new("/dev/full"), "x").expect_err("it takes nothing");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_file_that_is_open_is_written_at_its_end() {
        use std::os::fd::AsRawFd as _;

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("redirected");
        let mut open = File::create(&path).expect("a file");
        open.write_all(b"printed\n").expect("room");
        let descriptor = format!("/dev/fd/{}", open.as_raw_fd());
        drafted(Path::new(&descriptor), "dumped\n").expect("open");
        let text = fs::read_to_string(&path).expect("there");
        assert_eq!(text, "printed\ndumped\n");
    }

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_other_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "old").expect("a file");
        let failed = replace(&file, |out| {
            out.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.expect_err("full").kind(), io::ErrorKind::StorageFull);
        let mut draft = Draft::new(&file).expect("a draft");
        draft.write_all(b"half").expect("room");
        drop(draft);
        assert_eq!(fs::read_to_string(&file).expect("there"), "old");

        fs::create_dir(folder.path().join("folder")).expect("a folder");
        for (name, kind) in [
            ("folder", io::ErrorKind::IsADirectory),
            ("other/", io::ErrorKind::IsADirectory),
            ("file/below", io::ErrorKind::NotADirectory),
            ("nowhere/file", io::ErrorKind::NotFound),
        ] {
            // Joined as text, because a path drops the slash at its end.
            let path = PathBuf::from(format!("{}/{name}", folder.path().display()));
            assert_eq!(write(&path, "x").expect_err(name).kind(), kind, "{name}");
            assert_eq!(Draft::new(&path).expect_err(name).kind(), kind, "{name}");
        }
        assert_eq!(names(folder.path()), ["file", "folder"]);
    }

    #[test]
    fn a_new_file_has_its_mode_and_replaces_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        write_new(&path, "secret", 0o600).expect("none yet");
        assert_eq!(mode(&path), 0o600);
        let error = write_new(&path, "other", 0o600).expect_err("there is one");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).expect("there"), "secret");
        assert_eq!(names(folder.path()), ["key"]);
    }

    #[test]
    fn temporary_files_are_known_by_their_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("000000000064.safetensors");
        let temporary = temporary(&path, PLAIN).expect("a file");
        let name = temporary.path().file_name().expect("a name");
        assert_eq!(temporary_of(name), Some("000000000064.safetensors"));
        for name in ["000000000064.tmp", ".tmp", "a.b.tmp", ".hidden", ".lock"] {
            assert_eq!(temporary_of(OsStr::new(name)), None, "{name}");
        }
    }
}
