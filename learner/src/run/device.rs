//! The device of the learner's tensors, from `run.device` and the hardware of this machine.
//!
//! ```text
//!   cpu          nothing is loaded
//!   auto, cuda   libtorch_cuda.so beside the libtorch in use -> NVIDIA driver -> a device
//! ```
//!
//! This module loads libtorch_cuda.so; the program does not link it. The linker would drop it, because the program
//! calls nothing in it by name. Loading also lets one program run with and without CUDA. libtorch looks for what the
//! library registers once, at the first query about CUDA. So the library must be loaded before that query.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use hrm_common::config::{Config, DeviceChoice, Effective};
use tch::{Device, Kind, TchError, Tensor};

use crate::run::shared_library;

/// The part of libtorch that computes on NVIDIA GPUs.
const CUDA_LIBRARY: &str = "libtorch_cuda.so";
/// The part that every libtorch has.
const CPU_LIBRARY: &str = "libtorch_cpu.so";
/// The library of NVIDIA's driver.
const DRIVER: &str = "libcuda.so.1";

/// Reason why no CUDA device can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCuda {
    /// The folder of libtorch is unknown.
    #[error("the folder of libtorch cannot be found: {0}")]
    NoLibtorch(String),
    /// This libtorch is a CPU build.
    #[error("this libtorch has no CUDA library: {} does not exist", .0.display())]
    NoLibrary(PathBuf),
    /// The CUDA library exists, but the dynamic loader cannot load it.
    #[error("{} cannot be loaded: {reason}", .library.display())]
    Unloadable {
        /// The file.
        library: PathBuf,
        /// The dynamic loader's message.
        reason: String,
    },
    /// The CUDA library is loaded, but the driver cannot be loaded.
    #[error("libtorch's CUDA library is loaded, but there is no NVIDIA driver: {0}")]
    NoDriver(String),
    /// The CUDA library and the driver are loaded, but libtorch can use no device.
    #[error(
        "libtorch's CUDA library and the NVIDIA driver's are loaded, but no CUDA device can be used: {0}"
    )]
    NoDevice(String),
}

impl NoCuda {
    /// Returns the remedy.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoLibtorch(_) => "link libtorch as shared libraries",
            Self::NoLibrary(_) => {
                "take a CUDA libtorch 2.11.0 (the image hrm-impala/learner-cuda has one, and so has pip's torch \
                 2.11.0): put its lib folder first in LD_LIBRARY_PATH, or build with LIBTORCH naming it"
            }
            Self::Unloadable { .. } => {
                "install the library that the message names, at the version that \
                 deploy/docker/libtorch-cuda.txt names, or correct LD_LIBRARY_PATH"
            }
            Self::NoDriver(_) => {
                "install the NVIDIA driver, release 580 or later; a container must also be given the GPU \
                 (docker run --gpus all, Kubernetes: the resource nvidia.com/gpu)"
            }
            Self::NoDevice(_) => {
                "look at what nvidia-smi lists (driver release 580 or later), and whether \
                 CUDA_VISIBLE_DEVICES hides it"
            }
        }
    }
}

/// `run.device = "cuda"`, but no CUDA device can be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "invalid run.device = \"cuda\" (from {origin}): {cause}\n  remedy: {}; or set run.device = \"cpu\"",
    cause.remedy()
)]
pub(crate) struct DeviceError {
    origin: String,
    cause: NoCuda,
}

/// A device and the reason for its choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChosenDevice {
    /// The device of the learner's tensors.
    pub device: Device,
    /// The value of `run.device`, and for `auto` what was found.
    pub reason: String,
    /// True when this is a CUDA libtorch but no GPU can be used: the user probably wanted one.
    falls_short: bool,
    /// Its name in logs and metrics: `cpu`, or `cuda:0`.
    pub label: String,
    /// The number of update threads on it.
    pub threads: usize,
}

impl ChosenDevice {
    /// Logs the choice and its reason: a warning when a CUDA libtorch remains unused.
    pub(crate) fn log(&self) {
        let device = &self.label;
        if self.falls_short {
            tracing::warn!(device, reason = self.reason, "device chosen");
        } else {
            tracing::info!(device, reason = self.reason, "device chosen");
        }
    }
}

/// Chooses the device of a configuration.
///
/// # Errors
///
/// Returns an error when a GPU is required and none can be used.
pub(crate) fn choose(effective: &Effective) -> Result<ChosenDevice, DeviceError> {
    let choice = |device, reason: String, falls_short| ChosenDevice {
        device,
        reason,
        falls_short,
        label: label(device),
        threads: update_threads(&effective.config, device),
    };
    match effective.config.run.device {
        DeviceChoice::Cpu => Ok(choice(
            Device::Cpu,
            "run.device = \"cpu\"".to_owned(),
            false,
        )),
        DeviceChoice::Cuda => match cuda() {
            Ok(()) => Ok(choice(
                Device::Cuda(0),
                "run.device = \"cuda\"".to_owned(),
                false,
            )),
            Err(cause) => Err(DeviceError {
                origin: effective.origin("run.device").to_owned(),
                cause,
            }),
        },
        DeviceChoice::Auto => Ok(match cuda() {
            Ok(()) => choice(
                Device::Cuda(0),
                "run.device = \"auto\": libtorch can use a CUDA device".to_owned(),
                false,
            ),
            Err(cause) => choice(
                Device::Cpu,
                format!("run.device = \"auto\": {cause}"),
                !matches!(cause, NoCuda::NoLibrary(_)),
            ),
        }),
    }
}

/// Returns the name of a device in logs and metrics: `cpu`, or `cuda:0` as in PyTorch.
fn label(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Returns the number of threads that share a minibatch on this device.
fn update_threads(config: &Config, device: Device) -> usize {
    match device {
        Device::Cpu => config.learner.resolved_threads(),
        _ => 1,
    }
}

/// Makes CUDA usable in this process, once.
///
/// # Errors
///
/// Returns the reason why no CUDA device can be used.
pub fn cuda() -> Result<(), NoCuda> {
    static CUDA: OnceLock<Result<(), NoCuda>> = OnceLock::new();
    CUDA.get_or_init(find_cuda).clone()
}

fn find_cuda() -> Result<(), NoCuda> {
    let folder = libtorch().map_err(|e| NoCuda::NoLibtorch(e.to_string()))?;
    let library = folder.join(CUDA_LIBRARY);
    if !library.exists() {
        return Err(NoCuda::NoLibrary(library));
    }
    shared_library::load(library.as_os_str()).map_err(|e| NoCuda::Unloadable {
        library,
        reason: e.to_string(),
    })?;
    shared_library::load(DRIVER.as_ref()).map_err(|e| NoCuda::NoDriver(e.to_string()))?;
    if tch::Cuda::is_available() {
        return Ok(());
    }
    // libtorch gives the reason only when a program tries to use a device.
    let reason = match Tensor::f_zeros([1], (Kind::Float, Device::Cuda(0))) {
        Ok(_) => "libtorch finds no device".to_owned(),
        Err(TchError::Torch(message)) => message,
        Err(error) => error.to_string(),
    };
    // The other lines are a stack trace.
    let first = reason.lines().next().unwrap_or_default();
    Err(NoCuda::NoDevice(first.to_owned()))
}

/// Returns the folder of the libtorch that this process has loaded.
fn libtorch() -> io::Result<PathBuf> {
    let maps = std::fs::read("/proc/self/maps")?;
    folder_of(CPU_LIBRARY, &maps).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("no {CPU_LIBRARY} is loaded"),
        )
    })
}

/// Returns the folder that a library was loaded from. A line of `maps` is `address mode offset device inode path`.
fn folder_of(library: &str, maps: &[u8]) -> Option<PathBuf> {
    let path = |line: &[u8]| {
        let begin = line.iter().position(|&byte| byte == b'/')?;
        Some(PathBuf::from(OsStr::from_bytes(line.get(begin..)?)))
    };
    maps.split(|&byte| byte == b'\n')
        .filter_map(path)
        .find(|path| path.file_name() == Some(OsStr::new(library)))
        .as_deref()
        .and_then(Path::parent)
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use hrm_common::config::{Layers, Override};

    use super::*;

    #[test]
    fn the_folder_of_a_loaded_library_is_found() {
        let maps = b"55d0-55d1 r--p 00000000 fe:00 12 /usr/bin/hrm-learner\n\
            7f00-7f01 rw-p 00000000 00:00 0 \n\
            7f01-7f02 r-xp 00001000 fe:00 13 /opt/my libs/libtorch_cpu.so.1\n\
            7f02-7f03 r-xp 00001000 fe:00 14 /opt/my libs/libtorch_cpu.so\n\
            7ffe-7fff r-xp 00000000 00:00 0 [vdso]\n";
        assert_eq!(
            folder_of(CPU_LIBRARY, maps),
            Some(PathBuf::from("/opt/my libs"))
        );
        assert_eq!(folder_of(CUDA_LIBRARY, maps), None);
        assert_eq!(folder_of(CPU_LIBRARY, b""), None);
    }

    #[test]
    fn the_libtorch_of_this_process_is_found() {
        // Ensures that libtorch is loaded: the linker leaves out a library that nothing calls.
        assert_eq!(
            Tensor::zeros([1], (Kind::Float, Device::Cpu)).size1().ok(),
            Some(1)
        );
        let folder = libtorch().expect("a folder");
        assert!(folder.join(CPU_LIBRARY).exists(), "{folder:?}");
    }

    #[test]
    fn an_error_names_key_value_source_cause_and_remedy() {
        let causes = [
            NoCuda::NoLibtorch("gone".to_owned()),
            NoCuda::NoLibrary("/opt/libtorch_cuda.so".into()),
            NoCuda::Unloadable {
                library: "/opt/libtorch_cuda.so".into(),
                reason: "libcudnn.so.9: not found".to_owned(),
            },
            NoCuda::NoDriver("libcuda.so.1: not found".to_owned()),
            NoCuda::NoDevice("No CUDA GPUs are available".to_owned()),
        ];
        for cause in causes {
            let text = DeviceError {
                origin: "--set".to_owned(),
                cause: cause.clone(),
            }
            .to_string();
            let said = cause.to_string();
            assert!(
                text.starts_with(&format!(
                    "invalid run.device = \"cuda\" (from --set): {said}\n"
                )),
                "{text}"
            );
            assert!(text.contains(cause.remedy()), "{text}");
            assert_eq!(text.matches(&said).count(), 1, "{text}");
        }
    }

    #[test]
    fn the_cpu_is_chosen_when_it_is_asked_for() {
        let effective = Config::load(&Layers {
            command_line: vec![Override::new("--set", "run.device", "cpu")],
            ..Layers::default()
        })
        .expect("a configuration");
        let choice = choose(&effective).expect("every machine has one");
        assert_eq!(choice.device, Device::Cpu);
        assert_eq!(choice.reason, "run.device = \"cpu\"");
        assert_eq!(label(Device::Cpu), "cpu");
        assert_eq!(label(Device::Cuda(0)), "cuda:0");
    }
}
