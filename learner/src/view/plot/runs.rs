//! The picture of one run or of several, from their logs.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{PlotError, comparison, learning_curve};
use crate::{
    storage::{files, metrics_log, records::Record},
    view::short_names,
};

/// Draws the runs in these folders, and returns the path of the picture. Without `out`, one run has its picture in its
/// folder, and several have theirs in the current folder.
///
/// # Errors
///
/// Returns an error when a log is missing or invalid, or the picture cannot be written.
pub(crate) fn draw_runs(
    run_dirs: &[impl AsRef<Path>],
    out: Option<&Path>,
) -> Result<PathBuf, PlotError> {
    let run_dirs: Vec<_> = run_dirs.iter().map(AsRef::as_ref).collect();
    let records: Result<Vec<_>, _> = run_dirs.iter().map(|dir| records(dir)).collect();
    let names = short_names(&run_dirs).into_iter();
    let runs: Vec<_> = names.zip(records?).collect();
    let (usual, svg) = match (&runs[..], &run_dirs[..]) {
        ([(name, records)], [run_dir]) => (
            run_dir.join("learning-curve.svg"),
            learning_curve::svg(name, records)?,
        ),
        _ => ("comparison.svg".into(), comparison::svg(&runs)?),
    };
    let path = out.map_or(usual, Path::to_owned);
    match files::write(&path, svg) {
        Ok(()) => Ok(path),
        Err(reason) => Err(PlotError::Io { path, reason }),
    }
}

/// Reads the log of the run in a folder.
fn records(run_dir: &Path) -> Result<Vec<Record>, PlotError> {
    let log = run_dir.join("metrics.jsonl");
    metrics_log::read(&log).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            PlotError::NoRun(run_dir.to_owned())
        }
        _ => PlotError::Log(error),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        storage::metrics_log::MetricsLog,
        study::fixture::{eval, train},
    };

    #[test]
    fn one_run_is_drawn_in_its_folder_and_several_where_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let runs = ["a", "b"].map(|name| folder.path().join(name));
        let missing = draw_runs(&runs, None).expect_err("no runs yet");
        assert!(matches!(missing, PlotError::NoRun(_)), "{missing}");
        for run in &runs {
            fs::create_dir(run).expect("a folder");
            let mut log = MetricsLog::open(&run.join("metrics.jsonl"), 0).expect("a log");
            for record in [train(100, 500, 0.5), eval(200, 0.75)] {
                log.append(&record).expect("room");
            }
        }
        let out = folder.path().join("both.svg");
        let curve = runs[0].join("learning-curve.svg");
        assert_eq!(draw_runs(&runs[..1], None).expect("drawn"), curve);
        assert_eq!(draw_runs(&runs, Some(&out)).expect("drawn"), out);
        let [one, both] = [curve, out].map(|path| fs::read_to_string(path).expect("a picture"));
        assert!(one.contains("last evaluation: 75.0%") && both.contains("2 runs"));
        let nowhere = draw_runs(&runs, Some(folder.path())).expect_err("a folder");
        assert!(matches!(nowhere, PlotError::Io { .. }), "{nowhere}");
    }
}
