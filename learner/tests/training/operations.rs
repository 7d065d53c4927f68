//! The operations that an update dispatches to libtorch. On a GPU each costs the host about as much time as a small
//! kernel takes, and one that reads a number waits for all before it.
//!
//! A library that counts them is loaded before libtorch into a child process. The child is this program with one test,
//! and trains on one batch. Batches with different numbers of minibatches give the operations of one minibatch.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use hrm_common::{
    config::{LossConfig, OptimizerConfig},
    env::EnvConfig,
    model::{CarryMode, Dtype, ModelConfig},
};
use hrm_learner::training::{backend::Backend, batch::Batch, update::Updater};
use tch::Device;
use test_support::{
    mazes::{Actors, attention, conv, learner_clock, opinionated},
    native_library::{compile, libtorch},
};

/// The model and the number of minibatches, for the child.
const MODEL: &str = "OPERATIONS_MODEL";
const MINIBATCHES: &str = "OPERATIONS_MINIBATCHES";

/// Operations that read a number from the device, or whose result's shape depends on one.
const READS: [&str; 6] = [
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
];

/// By name, how often an operation was dispatched, and how often by no other operation.
type Operations = BTreeMap<String, [u64; 2]>;

fn counter(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/training/count_operations.cpp");
    let library = folder.join("libcount_operations.so");
    let lib = libtorch().join("lib").display().to_string();
    compile(
        &[
            "-O1",
            &format!("-I{}", libtorch().join("include").display()),
            &source.display().to_string(),
            &format!("-L{lib}"),
            &format!("-Wl,-rpath,{lib}"),
            "-ltorch_cpu",
            "-lc10",
        ],
        &library,
    );
    library
}

/// Counts the operations of a child that trains on one batch.
fn count(library: &Path, model: &str, minibatches: usize) -> Operations {
    let counts = library.with_file_name(format!("{model}-{minibatches}"));
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "operations::trains_on_one_batch", "--ignored"])
        .env("LD_PRELOAD", library)
        .env("OPERATIONS", &counts)
        .env(MODEL, model)
        .env(MINIBATCHES, minibatches.to_string())
        .output()
        .expect("a process");
    assert!(child.status.success(), "{child:?}");
    let counts = fs::read_to_string(counts).expect("the counts");
    let count = |line: &str| {
        let mut words = line.rsplitn(3, ' ');
        let (outermost, all, name) = (words.next()?, words.next()?, words.next()?);
        Some((
            name.to_owned(),
            [all.parse().ok()?, outermost.parse().ok()?],
        ))
    };
    let counts = counts.lines();
    let counts = counts.map(|line| count(line).expect("NAME ALL OUTERMOST"));
    counts.collect()
}

/// Returns the operations of one minibatch.
fn of_one_minibatch(library: &Path, model: &str) -> Operations {
    let (few, many) = (count(library, model, 2), count(library, model, 6));
    let difference = |(name, many): (String, [u64; 2])| {
        let few = few.get(&name).copied().unwrap_or_default();
        let difference = [many[0] - few[0], many[1] - few[1]];
        assert_eq!(
            difference.map(|n| n % 4),
            [0, 0],
            "{name} depends on the minibatch"
        );
        (name, difference.map(|n| n / 4))
    };
    let operations = many.into_iter().map(difference);
    operations.filter(|(_, [all, _])| *all > 0).collect()
}

/// A model and whether every segment is trained. In bfloat16, as GPUs compute.
fn config(name: &str) -> (ModelConfig, bool) {
    let (model, deep_supervision) = match name {
        "conv" => (conv(CarryMode::Full), false),
        "attention" => (attention(CarryMode::Full), true),
        other => panic!("no model {other}"),
    };
    let dtype = Dtype::Bf16;
    (ModelConfig { dtype, ..model }, deep_supervision)
}

/// The child.
#[test]
#[ignore = "counted by the test below"]
fn trains_on_one_batch() {
    let variable = |name| std::env::var(name).expect("set by the parent");
    let (model, deep_supervision) = config(&variable(MODEL));
    let environment = EnvConfig::four_rooms();
    let model = opinionated(&model, &environment, 3);
    let unrolls = Actors::new(1, &model, &environment, [8, 3], Dtype::F32).play(0);
    let batch = Batch::stack(&unrolls, 0, Device::Cpu);
    let loss = LossConfig {
        passes: 1,
        updates_per_batch: variable(MINIBATCHES).parse().expect("a number"),
        deep_supervision,
        ..LossConfig::default()
    };
    let mut updater =
        Updater::new(model, loss, OptimizerConfig::default(), 1, 1).expect("a thread");
    updater = updater.with_backend(Backend::Libtorch);
    let report = updater.update(&batch, 0.0, &mut learner_clock());
    assert_eq!(report.updates_skipped, 0);
}

#[test]
fn an_update_reads_nothing_and_dispatches_as_many_operations_as_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let library = counter(folder.path());
    for (model, expected) in [("conv", 487), ("attention", 879)] {
        let operations = of_one_minibatch(&library, model);
        for read in READS {
            assert_eq!(operations.get(read), None, "{model}");
        }
        let outermost: u64 = operations.values().map(|[_, outermost]| outermost).sum();
        println!("{model}: {outermost} operations per update: {operations:?}");
        assert_eq!(outermost, expected, "{model}");
    }
}
