//! An analysis as text: a table for people, CSV files for other programs.

use std::fmt::{self, Write as _};

use super::{
    Analysis, ConvergencePoint, Kind, Mean, ProbeStart, ProbedModule, Reaction, Share, Thinking,
    WalkerReactions,
};

/// Returns `convergence.csv`, with one line per [`ConvergencePoint`].
pub(crate) fn convergence_csv(points: &[ConvergencePoint]) -> String {
    let mut csv = String::from(
        "start,steps,module,segment,count,distance,distance_low,distance_high,\
         relative,relative_low,relative_high\n",
    );
    for point in points {
        let numbers = [point.distance, point.relative]
            .map(|Mean { mean, ci95, .. }| format!("{mean},{},{}", ci95[0], ci95[1]));
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            csv,
            "{},{},{},{},{},{},{}",
            point.start,
            point.steps,
            point.module,
            point.segment,
            point.distance.count,
            numbers[0],
            numbers[1],
        );
    }
    csv
}

/// Returns `reaction.csv`, with two lines per [`DoorEvent`](super::DoorEvent): the model's reaction and the oracle's. If
/// a rule ends the model's decisions, a third one has the reaction with the fewest segments, `hasty`.
///
/// The column `in_vain` holds the number of wasted moves. It keeps its name, because recorded files have it.
pub(crate) fn reaction_csv(analysis: &Analysis) -> String {
    let mut csv = String::from(
        "episode,step,walker,in_vain,extra_before,extra_after,turned,right_before,right_after\n",
    );
    for event in &analysis.reactions.events {
        let hasty = event.hasty.map(|reaction| ("hasty", reaction));
        let both = [("model", event.model), ("oracle", event.oracle)];
        for (walker, reaction) in both.into_iter().chain(hasty) {
            let Reaction {
                wasted,
                extra_before,
                extra_after,
                turned,
                right_before,
                right_after,
            } = reaction;
            let after = extra_after.map_or_else(String::new, |steps| steps.to_string());
            let _ = writeln!(
                csv,
                "{},{},{walker},{wasted},{extra_before},{after},{turned},{right_before},{right_after}",
                event.episode, event.step,
            );
        }
    }
    csv
}

/// The printed table.
impl fmt::Display for Analysis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} held-out episodes, {} steps; {} reach the goal\n",
            self.episodes,
            self.steps,
            percent(&self.success),
        )?;
        for module in [ProbedModule::ZH, ProbedModule::ZL] {
            self.write_convergence(f, module)?;
        }
        self.write_reactions(f)?;
        match &self.thinking {
            Some(thinking) => write_thinking(f, thinking),
            None => Ok(()),
        }
    }
}

fn write_thinking(f: &mut fmt::Formatter<'_>, thinking: &Thinking) -> fmt::Result {
    writeln!(
        f,
        "\nSegments per decision: {} on average",
        number(thinking.mean)
    )?;
    for point in &thinking.points {
        let name = words(point.steps);
        let count = point.segments.count;
        writeln!(
            f,
            "  {name:<42}{:>26}{count:>9}",
            number(Some(point.segments))
        )?;
    }
    writeln!(
        f,
        "Probability that the first has more segments than the second (AUROC; half if equal)"
    )?;
    for area in &thinking.areas {
        let [low, high] = area.ci95;
        let found = format!("{:.3} ({low:.3} to {high:.3})", area.auroc);
        let [first, second] = area.decisions;
        writeln!(f, "  {:<42}{found:>26}{first:>9}{second:>9}", area.contrast)?;
    }
    Ok(())
}

impl Analysis {
    fn write_convergence(&self, f: &mut fmt::Formatter<'_>, module: ProbedModule) -> fmt::Result {
        let shown = (0..self.segments).filter(|s| *s < 4 || s.is_power_of_two());
        let shown: Vec<usize> = shown.collect();
        write!(
            f,
            "Distance of {module} to its value after segment {}, as a share of that value's norm\n{:<36}{:>7}",
            self.segments, "  after segment", "probed",
        )?;
        for segment in &shown {
            write!(f, "{segment:>9}")?;
        }
        writeln!(f, "   starts as near as")?;
        for steps in Kind::ALL {
            for start in [ProbeStart::Carry, ProbeStart::Reset] {
                let curve: Vec<&ConvergencePoint> = self
                    .convergence
                    .iter()
                    .filter(|p| p.start == start && p.steps == steps && p.module == module)
                    .collect();
                let Some(first) = curve.first() else {
                    continue;
                };
                let row = format!("  {start}, {}", words(steps));
                write!(f, "{row:<36}{:>7}", first.relative.count)?;
                for &segment in &shown {
                    write!(f, "{:>9.3}", curve[segment].relative.mean)?;
                }
                match self.head_start(steps, module) {
                    Some(segments) if start == ProbeStart::Carry => {
                        writeln!(f, "   reset after {segments}")?;
                    }
                    _ => writeln!(f)?,
                }
            }
        }
        writeln!(f)
    }

    /// Counts the segments until a decision from the initial vectors is as near to its end as the carry is.
    fn head_start(&self, steps: Kind, module: ProbedModule) -> Option<usize> {
        let mut curves = self
            .convergence
            .iter()
            .filter(|point| point.steps == steps && point.module == module);
        // The curves of the carry come first.
        let start = curves
            .find(|point| point.start == ProbeStart::Carry)?
            .relative
            .mean;
        curves
            .find(|point| point.start == ProbeStart::Reset && point.relative.mean <= start)
            .map(|point| point.segment)
    }

    fn write_reactions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.reactions;
        writeln!(
            f,
            "Of {} door changes {} closed a door on the chosen path and left another way; {} left none; \
             {} met an agent without a path to the goal",
            r.changes, r.closed_ahead, r.cut_off, r.without_path,
        )?;
        if r.closed_ahead == 0 {
            return Ok(());
        }
        let hasty = r.hasty.as_ref().map(|hasty| ("fewest segments", hasty));
        let walkers = [("model", &r.model), ("oracle", &r.oracle)];
        let walkers: Vec<_> = walkers.into_iter().chain(hasty).collect();
        let names = walkers.iter().map(|(name, _)| format!("{name:>26}"));
        writeln!(f, "{:<44}{}", "", names.collect::<String>())?;
        let mut row = |name: &str, value: &dyn Fn(&WalkerReactions) -> String| {
            let values = walkers.iter().map(|(_, of)| format!("{:>26}", value(of)));
            writeln!(f, "  {name:<42}{}", values.collect::<String>())
        };
        for k in [0, 1, 2, 4, 8] {
            row(
                &format!("path changed, wasted moves up to {k}"),
                &|walker| {
                    walker
                        .changed_within
                        .get(k)
                        .map_or_else(String::new, percent)
                },
            )?;
        }
        row("path changed and reaches the goal", &|w| {
            percent(&w.changed)
        })?;
        row("next move differs", &|w| percent(&w.turned))?;
        row("next move right, had the door stayed", &|w| {
            percent(&w.right_before)
        })?;
        row("next move right, the door closed", &|w| {
            percent(&w.right_after)
        })?;
        row("steps beyond the shortest, had it stayed", &|w| {
            number(w.extra_before)
        })?;
        row("steps beyond the shortest, closed", &|w| {
            number(w.extra_after)
        })
    }
}

/// Returns a short name for a table or a legend.
pub(crate) fn words(steps: Kind) -> &'static str {
    match steps {
        Kind::First => "first step of an episode",
        Kind::NoChange => "no door changed",
        Kind::Change => "a door changed",
        Kind::ClosedAhead => "a door closed ahead",
    }
}

fn percent(share: &Share) -> String {
    match share.share {
        Some(value) => format!(
            "{:.1}% ({:.1} to {:.1}%)",
            100.0 * value,
            100.0 * share.ci95[0],
            100.0 * share.ci95[1]
        ),
        None => "–".to_owned(),
    }
}

fn number(mean: Option<Mean>) -> String {
    match mean {
        Some(Mean { mean, ci95, .. }) => format!("{mean:.2} ({:.2} to {:.2})", ci95[0], ci95[1]),
        None => "–".to_owned(),
    }
}

impl fmt::Display for ProbeStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Carry => "carry",
            Self::Reset => "reset",
        })
    }
}

impl fmt::Display for ProbedModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ZH => "zH",
            Self::ZL => "zL",
        })
    }
}

/// The name in CSV and JSON.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::First => "first",
            Self::NoChange => "no-change",
            Self::Change => "change",
            Self::ClosedAhead => "closed-ahead",
        })
    }
}
