//! `hrm-learner study`: trains and reports the runs of a study.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use hrm_common::{
    output::{self, OutputError},
    shutdown::Shutdown,
};
use serde_json::json;

use crate::{
    run::progress::Screen,
    storage::files,
    study::{
        file::StudyFile,
        finished::StudyRuns,
        plan, report,
        run::{self, Standing},
    },
};

/// Flags of `study`.
#[derive(Debug, Args)]
pub(crate) struct StudyArgs {
    /// Study file; see configs/studies/.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Folder of the runs during training [default: runs/studies/NAME].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Folder of the raw data of finished runs and of the report [default: results in that folder].
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Train only the runs of this arm; may be given several times. The report covers all arms.
    #[arg(long, value_name = "ARM")]
    only: Vec<String>,
    /// Train nothing: write the report again from existing raw data.
    #[arg(long)]
    report_only: bool,
    /// Print the result as one JSON object on one line: the finished runs, all runs, and the report.
    #[arg(long)]
    json: bool,
}

/// Trains the missing runs, and writes the report after each.
pub(super) fn run(args: StudyArgs) -> anyhow::Result<()> {
    let study = StudyFile::read(&args.file)?;
    let dir = args
        .dir
        .unwrap_or_else(|| Path::new("runs/studies").join(&study.name));
    let results = args.results.unwrap_or_else(|| dir.join("results"));
    if args.report_only {
        let runs = StudyRuns::read(&study, &results)?;
        ensure!(
            runs.runs() > 0,
            "{} holds no raw data of this study: name the folder with --results, or leave --report-only out",
            results.display()
        );
        report::write(&runs, &results)?;
        let report = results.join(report::NAME);
        return match args.json {
            true => {
                let standing = Standing {
                    finished: runs.runs(),
                    of: study.planned(),
                };
                print_json(standing, &results)
            }
            false => Ok(output::print_line(report.display())?),
        };
    }
    for name in &args.only {
        ensure!(
            study.arm(name).is_some(),
            "--only {name}: {} has no such arm",
            args.file.display()
        );
    }
    let mut runs = plan::runs(&study, &args.file, &dir)?;
    runs.retain(|run| args.only.is_empty() || args.only.contains(&run.arm));
    let Some(first) = runs.first() else {
        return Ok(());
    };
    // Before the work, so that an impossible folder fails before training.
    for (flag, folder) in [("--dir", &dir), ("--results", &results)] {
        files::writable_folder(folder).with_context(|| {
            let folder = folder.display();
            format!("{flag} {folder}: name a folder that can be created and written")
        })?;
    }
    // One process has one log, so the first run's settings decide its format.
    let telemetry = first.effective.config.telemetry.clone();
    let screen = Screen::with_log(&telemetry)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let write_report = || report::write(&StudyRuns::read(&study, &results)?, &results);
    let standing = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        run::missing(&study, &runs, &results, &screen, &shutdown, write_report).await
    });
    // A task or thread that hangs must not prevent the end of the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    let standing = standing?;
    if standing.finished > 0 {
        // Also if there was nothing to train.
        write_report()?;
    }
    match args.json {
        true => print_json(standing, &results),
        false => Ok(say(standing, &results)?),
    }
}

/// Prints the study's progress and the place of its report as one JSON object on one line.
fn print_json(standing: Standing, results: &Path) -> anyhow::Result<()> {
    let report = results.join(report::NAME).display().to_string();
    let object = json!({
        "complete": standing.is_complete(),
        "finished": standing.finished,
        "runs": standing.of,
        "report": (standing.finished > 0).then_some(report),
    });
    Ok(output::print_line(object)?)
}

/// Prints the study's progress and the next steps to standard output.
fn say(standing: Standing, results: &Path) -> Result<(), OutputError> {
    let Standing { finished, of } = standing;
    if !standing.is_complete() {
        output::print_line(format_args!(
            "Stopped and saved: {finished} of {of} runs are finished.\n  continue      the same command"
        ))?;
    } else {
        output::print_line(format_args!("All {of} runs are finished."))?;
    }
    if finished > 0 {
        let report = results.join(report::NAME);
        output::print_line(format_args!("Look at next:\n  {}", report.display()))?;
    }
    Ok(())
}
