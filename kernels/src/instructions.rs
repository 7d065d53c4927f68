use std::{
    env, fmt,
    io::{self, Write as _},
    str::FromStr,
    sync::{Once, OnceLock},
};

/// The environment variable that forces a set of instructions.
pub const VARIABLE: &str = "HRM_KERNELS";

/// A set of vector instructions, from the slowest to the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// Plain Rust, for every processor.
    Portable,
    /// AVX2 and FMA: 8 lanes of f32.
    Avx2,
    /// AVX-512 F, BW and VL: 16 lanes of f32.
    Avx512,
    /// AVX-512 with BF16: also 32 products of bfloat16 in one instruction.
    Avx512Bf16,
}

impl Instructions {
    /// All sets, from the slowest to the fastest.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// Returns true when this processor has them.
    pub fn available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl");
            match self {
                Self::Portable => true,
                Self::Avx2 => avx2,
                Self::Avx512 => avx512,
                Self::Avx512Bf16 => avx512 && is_x86_feature_detected!("avx512bf16"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }

    /// Calls `check` with each set that this processor has, and names the others on standard error. That is for tests,
    /// which must not pass over a set in silence.
    pub fn for_each_available(mut check: impl FnMut(Self)) {
        static TOLD: [Once; Instructions::ALL.len()] =
            [const { Once::new() }; Instructions::ALL.len()];
        for (set, told) in Self::ALL.into_iter().zip(&TOLD) {
            match set.available() {
                true => check(set),
                false => told.call_once(|| {
                    let line = format!("skipped: this processor cannot run {set}\n");
                    let _ = io::stderr().write_all(line.as_bytes());
                }),
            }
        }
    }

    /// Returns the fastest set that this processor has.
    pub fn fastest() -> Self {
        let mut sets = Self::ALL.into_iter().rev();
        let worthwhile = |set: &Self| set.available() && !(*set == Self::Avx512Bf16 && slow_bf16());
        sets.find(worthwhile).unwrap_or(Self::Portable)
    }

    /// Returns the set that `HRM_KERNELS` names, or the fastest one if the variable is not set.
    ///
    /// # Errors
    ///
    /// Returns an error when the variable names no set, or one that this processor does not have.
    pub fn choose() -> Result<Self, InstructionsError> {
        match env::var_os(VARIABLE) {
            None => Ok(Self::fastest()),
            Some(value) => value.to_string_lossy().parse(),
        }
    }

    /// Returns the set that this process uses: [`Instructions::choose`]'s, or the fastest one if that fails. A program
    /// calls that first, to report the error.
    pub fn chosen() -> Self {
        static CHOSEN: OnceLock<Instructions> = OnceLock::new();
        *CHOSEN.get_or_init(|| Self::choose().unwrap_or_else(|_| Self::fastest()))
    }

    /// The name, as in `HRM_KERNELS`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512-bf16",
        }
    }
}

/// True on processors that multiply bfloat16 slower than f32, although they have an instruction for it. Of those with
/// AVX-512 BF16 these are Intel's: `vdpbf16ps` takes four times as long as an f32 multiply-add there, for twice the
/// products (Emerald Rapids: 84 GFLOP/s against 170 on one core). AMD's take the same time for both.
fn slow_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let vendor = std::arch::x86_64::__cpuid(0);
        let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
        name.as_flattened() == b"GenuineIntel"
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Instructions {
    type Err = InstructionsError;

    fn from_str(name: &str) -> Result<Self, InstructionsError> {
        let error = |reason| {
            let available = Self::ALL.into_iter().filter(|set| set.available());
            let names: Vec<&str> = available.map(Self::as_str).collect();
            InstructionsError {
                value: name.to_owned(),
                reason,
                remedy: format!("unset it, or set it to one of: {}", names.join(", ")),
            }
        };
        match Self::ALL.into_iter().find(|set| set.as_str() == name) {
            None => Err(error("it names no kernels")),
            Some(set) if !set.available() => Err(error("this processor cannot run them")),
            Some(set) => Ok(set),
        }
    }
}

/// `HRM_KERNELS` cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstructionsError {
    /// The value.
    pub value: String,
    /// The reason why it is invalid.
    pub reason: &'static str,
    /// The remedy.
    pub remedy: String,
}

impl fmt::Display for InstructionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            value,
            reason,
            remedy,
        } = self;
        write!(f, "invalid {VARIABLE} = {value}: {reason}; {remedy}")
    }
}

impl std::error::Error for InstructionsError {}
