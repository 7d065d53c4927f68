//! Finding CUDA without a GPU: the real program on a copy of its libtorch, with stand-ins for the CUDA library and the
//! NVIDIA driver.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Output,
    sync::OnceLock,
};

use serde_json::Value;
use tempfile::TempDir;
use test_support::{
    TINY,
    native_library::{compile, libtorch},
    tiny_args,
};

const CUDA_LIBRARY: &str = "libtorch_cuda.so";
const DRIVER: &str = "libcuda.so.1";

/// A libtorch of its own for one test, and what is put beside it.
struct Machine {
    folder: TempDir,
}

impl Machine {
    /// The libtorch that the tests were built with, without its CUDA library if it has one.
    fn new() -> Self {
        // On the disk of the build, where links to libtorch are most likely possible: it has 450 MB.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let machine = Self { folder };
        fs::create_dir_all(machine.lib()).expect("a folder");
        for library in fs::read_dir(libtorch().join("lib")).expect("libtorch") {
            let library = library.expect("a library");
            let name = library.file_name();
            let is_file = library.path().is_file();
            if !is_file || name.to_string_lossy().starts_with("libtorch_cuda") {
                continue;
            }
            let place = machine.lib().join(name);
            // The kernel names a loaded file by its last folder, so links that point elsewhere would not do.
            fs::hard_link(library.path(), &place)
                .or_else(|_| fs::copy(library.path(), &place).map(drop))
                .expect("a copy");
        }
        // Where the libtorch of a wheel looks for CUDA's own libraries.
        let nvidia = libtorch().join("../nvidia");
        if nvidia.exists() {
            symlink(nvidia, machine.folder.path().join("nvidia")).expect("a link");
        }
        machine
    }

    fn with(self, name: &str, library: &Path) -> Self {
        fs::copy(library, self.lib().join(name)).expect("a copy");
        self
    }

    fn lib(&self) -> PathBuf {
        self.folder.path().join("torch/lib")
    }

    /// True when the CUDA library's stand-in was loaded.
    fn loaded(&self) -> bool {
        self.folder.path().join("loaded").exists()
    }

    /// Trains a moment on the device that is asked for.
    fn train(&self, device: &str, devices: usize) -> Trained {
        let run_dir = self.folder.path().join(format!("run-{device}"));
        let output = test_support::command(env!("CARGO_BIN_EXE_hrm-learner"))
            .args(["train", "--run-dir"])
            .arg(run_dir)
            .args(tiny_args(&[
                ("run.device", device),
                ("learner.total_frames", "32"),
                ("eval.final_episodes", "1"),
            ]))
            .env("LD_LIBRARY_PATH", self.lib())
            .env("STUB_LOADED", self.folder.path().join("loaded"))
            .env("STUB_DEVICES", devices.to_string())
            .output()
            .expect("a process");
        Trained::new(output)
    }
}

/// The result of a training.
struct Trained {
    code: Option<i32>,
    log: String,
}

impl Trained {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code(),
            log: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// The log line about the device: level, device and reason.
    fn choice(&self) -> (String, String, String) {
        let line = self
            .log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["message"] == "device chosen")
            .unwrap_or_else(|| panic!("no choice in {}", self.log));
        let text = |key: &str| line[key].as_str().expect("text").to_owned();
        (text("level"), text("device"), text("reason"))
    }

    /// Asserts that it trained on the CPU for this reason.
    fn on_the_cpu(&self, level: &str, reason: &str) {
        assert_eq!(self.code, Some(0), "{}", self.log);
        let (chosen_level, device, chosen_reason) = self.choice();
        assert_eq!(device, "cpu");
        assert_eq!(chosen_level, level);
        assert!(chosen_reason.contains(reason), "{chosen_reason}");
    }

    /// Asserts that it ended with this error, said once, and its remedy.
    fn refused(&self, cause: &str, remedy: &str) {
        assert_eq!(self.code, Some(1), "{}", self.log);
        let error = format!("hrm-learner: invalid run.device = \"cuda\" (from --set): {cause}");
        assert!(self.log.contains(&error), "{error} in {}", self.log);
        assert_eq!(self.log.matches(cause).count(), 1, "{}", self.log);
        assert!(self.log.contains("\n  remedy: "), "{}", self.log);
        assert!(self.log.contains(remedy), "{remedy} in {}", self.log);
        assert!(
            self.log.contains("set run.device = \"cpu\""),
            "{}",
            self.log
        );
    }
}

/// Compiles stand-ins, once for all tests.
struct Stubs {
    folder: TempDir,
}

impl Stubs {
    fn get() -> &'static Self {
        static STUBS: OnceLock<Stubs> = OnceLock::new();
        STUBS.get_or_init(|| {
            let stubs = Self {
                folder: tempfile::tempdir().expect("a folder"),
            };
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/stub_cuda.cpp");
            let headers = format!("-I{}", libtorch().join("include").display());
            compile(&[&headers, &path(&source)], &stubs.cuda());
            let empty = stubs.folder.path().join("empty.cpp");
            fs::write(&empty, "").expect("a file");
            compile(&[&path(&empty)], &stubs.driver());

            // Needs a library that is there when it is linked, and not when it is loaded.
            let gone = stubs.folder.path().join("libgone.so");
            compile(&[&path(&empty)], &gone);
            let needed = ["-Wl,--no-as-needed", &path(&empty), &path(&gone)];
            compile(&needed, &stubs.unloadable());
            stubs
        })
    }

    fn cuda(&self) -> PathBuf {
        self.folder.path().join(CUDA_LIBRARY)
    }

    fn unloadable(&self) -> PathBuf {
        self.folder.path().join("unloadable.so")
    }

    fn driver(&self) -> PathBuf {
        self.folder.path().join(DRIVER)
    }

    /// A driver that no loader takes. A machine with a GPU has a sound one elsewhere, which it hides.
    fn no_driver(&self) -> PathBuf {
        let place = self.folder.path().join("no-driver");
        fs::write(&place, "no shared library").expect("a file");
        place
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_libtorch_without_cuda_is_named() {
    let machine = Machine::new();
    let cause = format!(
        "this libtorch has no CUDA library: {} does not exist",
        path(
            &fs::canonicalize(machine.lib())
                .expect("a folder")
                .join(CUDA_LIBRARY)
        )
    );
    machine
        .train("cuda", 1)
        .refused(&cause, "take a CUDA libtorch 2.11.0");
    machine.train("auto", 1).on_the_cpu("INFO", &cause);
}

#[test]
fn a_cuda_library_that_cannot_be_loaded_is_named_with_the_reason() {
    let machine = Machine::new().with(CUDA_LIBRARY, &Stubs::get().unloadable());
    let cause = "libtorch_cuda.so cannot be loaded: libgone.so: cannot open shared object file";
    let trained = machine.train("cuda", 1);
    assert!(trained.log.contains(cause), "{}", trained.log);
    assert_eq!(trained.log.matches("libgone.so").count(), 1);
    assert_eq!(trained.code, Some(1));
    machine.train("auto", 1).on_the_cpu("WARN", cause);
}

#[test]
fn a_missing_driver_is_told_from_a_missing_library() {
    let stubs = Stubs::get();
    let machine = Machine::new()
        .with(CUDA_LIBRARY, &stubs.cuda())
        .with(DRIVER, &stubs.no_driver());
    let cause = "libtorch's CUDA library is loaded, but there is no NVIDIA driver: ";
    machine
        .train("cuda", 1)
        .refused(cause, "install the NVIDIA driver");
    assert!(machine.loaded());
    let trained = machine.train("auto", 1);
    trained.on_the_cpu("WARN", cause);
    trained.on_the_cpu("WARN", "libcuda.so.1: ");
}

#[test]
fn a_missing_device_is_told_from_a_missing_driver() {
    let stubs = Stubs::get();
    let machine = Machine::new()
        .with(CUDA_LIBRARY, &stubs.cuda())
        .with(DRIVER, &stubs.driver());
    let cause = "CUDA library and the NVIDIA driver's are loaded, but no CUDA device can be used: ";
    let full = format!("libtorch's {cause}");
    machine.train("cuda", 0).refused(&full, "nvidia-smi");
    assert!(machine.loaded());
    machine.train("auto", 0).on_the_cpu("WARN", cause);
}

#[test]
fn a_device_is_used_by_auto_and_by_cuda() {
    let stubs = Stubs::get();
    let machine = Machine::new()
        .with(CUDA_LIBRARY, &stubs.cuda())
        .with(DRIVER, &stubs.driver());
    for (asked, reason) in [
        ("auto", "libtorch can use a CUDA device"),
        ("cuda", "run.device = \"cuda\""),
    ] {
        let trained = machine.train(asked, 1);
        let (level, device, said) = trained.choice();
        assert_eq!((level.as_str(), device.as_str()), ("INFO", "cuda:0"));
        assert!(said.contains(reason), "{said}");
        // The stand-in computes nothing, so it gets to the first tensor on the device and no further.
        assert_ne!(trained.code, Some(0), "{}", trained.log);
        assert!(trained.log.contains("'CUDA'"), "{}", trained.log);
    }
}

#[test]
fn nothing_is_loaded_for_the_cpu() {
    let stubs = Stubs::get();
    let machine = Machine::new()
        .with(CUDA_LIBRARY, &stubs.cuda())
        .with(DRIVER, &stubs.driver());
    machine
        .train("cpu", 1)
        .on_the_cpu("INFO", "run.device = \"cpu\"");
    assert!(!machine.loaded());
}

#[test]
fn a_study_that_needs_cuda_is_refused_before_it_trains_anything() {
    let machine = Machine::new();
    let folder = machine.folder.path();
    // A study chooses these by itself.
    let own = [
        "learner.listen",
        "learner.metrics_listen",
        "learner.web_listen",
    ];
    let set: String = TINY
        .iter()
        .filter(|(key, _)| !own.contains(key))
        .map(|(key, value)| match value.parse::<u64>() {
            Ok(number) => format!("{key} = {number}\n"),
            Err(_) => format!("{key} = {value:?}\n"),
        })
        .collect();
    let arm = |device: &str| {
        format!(
            "[[arm]]\nname = \"on-{device}\"\nconfig = \"base.toml\"\nset = {{ run.device = \"{device}\" }}\n"
        )
    };
    let study = format!(
        "name = \"devices\"\nseeds = [1]\n[set]\n{set}{}{}",
        arm("cpu"),
        arm("cuda")
    );
    fs::write(folder.join("base.toml"), "").expect("a file");
    fs::write(folder.join("study.toml"), study).expect("a file");
    let output = test_support::command(env!("CARGO_BIN_EXE_hrm-learner"))
        .arg("study")
        .arg(folder.join("study.toml"))
        .arg("--dir")
        .arg(folder.join("runs"))
        .env("LD_LIBRARY_PATH", machine.lib())
        .output()
        .expect("a process");
    let refused = Trained::new(output);
    assert_eq!(refused.code, Some(1), "{}", refused.log);
    for part in [
        "on-cuda",
        "run.device = \"cuda\"",
        "this libtorch has no CUDA library",
    ] {
        assert!(refused.log.contains(part), "{part} in {}", refused.log);
    }
    assert!(!refused.log.contains("\"training\""), "{}", refused.log);
}
