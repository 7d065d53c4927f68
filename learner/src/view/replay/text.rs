//! One frame of a replay as lines of text.

use crossterm::style::{Color, Stylize as _};

use super::recording::{RecordedEpisode, RecordedWalk, Recording, Thought, is_shut};

/// Columns of text beside a maze, at least.
const COLUMNS: usize = 36;
/// Columns between two mazes.
const GAP: &str = "   ";
const INITIALS: [char; 4] = ['N', 'E', 'S', 'W'];

/// The characters of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// ASCII, for files and dumb terminals.
    Plain,
    /// Block characters, each cell two columns wide, in colours where the environment permits them.
    Blocks,
}

/// The content of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drawn {
    Floor(u8),
    Wall,
    Door { shut: bool },
    Agent,
    Goal,
    Path,
    Oracle,
}

/// Returns the frame of an episode before its step `step`, as lines.
pub(crate) fn frame(
    recording: &Recording,
    episode: &RecordedEpisode,
    step: usize,
    look: Look,
) -> Vec<String> {
    let why: Vec<_> = episode.why.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        format!(
            "episode {} ({}), shortest path {}",
            episode.index + 1,
            why.join(", "),
            episode.shortest_path
        ),
        String::new(),
    ];
    let named = recording.walkers.iter().zip(&episode.walks);
    let columns: Vec<_> = named
        .map(|(name, walk)| column(recording, episode, name, walk, step, look))
        .collect();
    let height = columns.iter().map(Vec::len).max().unwrap_or(0);
    for row in 0..height {
        let cells: Vec<_> = columns.iter().map(|column| column[row].as_str()).collect();
        lines.push(cells.join(GAP).trim_end().to_owned());
    }
    lines
}

/// Returns the lines of one walk, all of the same width.
fn column(
    recording: &Recording,
    episode: &RecordedEpisode,
    name: &str,
    walk: &RecordedWalk,
    step: usize,
    look: Look,
) -> Vec<String> {
    let width = recording.grid.width;
    let per_cell = if look == Look::Plain { 1 } else { 2 };
    let columns = COLUMNS.max(width * per_cell);
    let padded = |text: &str| {
        let short: String = text.chars().take(columns).collect();
        format!("{short:columns$}")
    };
    let cells = drawn(walk, episode.oracle.as_ref(), step);
    let margin = " ".repeat(columns - width * per_cell);
    let mut lines = vec![padded(name)];
    lines.extend(cells.chunks(width).map(|row| {
        let row: String = row.iter().map(|&cell| cell.text(look)).collect();
        row + &margin
    }));
    lines.push(padded(&walk.state(episode.oracle.as_ref(), step)));
    if recording.scale.is_some() {
        let thought = walk.thought(step);
        lines.extend(
            figures(thought, walk.segments(step))
                .iter()
                .map(|line| padded(line)),
        );
    }
    lines
}

/// Returns what each cell shows.
fn drawn(walk: &RecordedWalk, oracle: Option<&RecordedWalk>, step: usize) -> Vec<Drawn> {
    let changes = walk.thought(step).map_or(&[][..], |thought| &thought.z_h);
    let size = walk.cells(step).glyphs().count();
    let marked = |cells: &[usize]| {
        let mut marked = vec![false; size];
        for &cell in cells {
            marked[cell] = true;
        }
        marked
    };
    let [doors, path] = [walk.doors(), walk.path(step)].map(marked);
    let oracles = marked(oracle.map_or(&[], |oracle| oracle.path(usize::MAX)));
    let glyphs = walk.cells(step).glyphs().enumerate();
    let cell = |(cell, glyph)| match glyph {
        'A' => Drawn::Agent,
        'G' => Drawn::Goal,
        _ if is_shut(glyph) && doors[cell] => Drawn::Door { shut: true },
        _ if is_shut(glyph) => Drawn::Wall,
        _ if path[cell] => Drawn::Path,
        _ if oracles[cell] => Drawn::Oracle,
        _ if doors[cell] => Drawn::Door { shut: false },
        _ => Drawn::Floor(changes.get(cell).copied().unwrap_or(0)),
    };
    glyphs.map(cell).collect()
}

/// Returns lines about a decision; empty ones after the last step.
fn figures(thought: Option<&Thought>, segments: Option<u8>) -> [String; 3] {
    let Some(thought) = thought else {
        return Default::default();
    };
    let chances = INITIALS.iter().zip(thought.probabilities);
    let chances = chances.map(|(initial, probability)| format!("{initial} {probability:.2}"));
    let mean = |changes: &[u8]| {
        let sum: f64 = changes.iter().copied().map(f64::from).sum();
        sum / 255.0 / changes.len() as f64
    };
    let [z_h, z_l] = [&thought.z_h, &thought.z_l].map(|changes| mean(changes));
    [
        chances.collect::<Vec<_>>().join(" "),
        match segments {
            Some(number) => format!("value {:.3} segments {number}", thought.value),
            None => format!("value {:.3}", thought.value),
        },
        format!("change zH {z_h:.2} zL {z_l:.2}"),
    ]
}

impl Drawn {
    fn text(self, look: Look) -> String {
        match look {
            Look::Plain => self.plain().to_string(),
            Look::Blocks => self.block().with(self.colour()).to_string(),
        }
    }

    fn plain(self) -> char {
        match self {
            Self::Floor(_) | Self::Door { shut: false } => '.',
            Self::Wall => '#',
            Self::Door { shut: true } => 'D',
            Self::Agent => 'A',
            Self::Goal => 'G',
            Self::Path => '*',
            Self::Oracle => 'o',
        }
    }

    fn block(self) -> &'static str {
        match self {
            Self::Floor(0..16) => "  ",
            Self::Floor(16..64) => "░░",
            Self::Floor(64..144) => "▒▒",
            Self::Floor(_) => "▓▓",
            Self::Wall => "██",
            Self::Door { shut: true } => "╬╬",
            Self::Door { shut: false } => "┆┆",
            Self::Agent => "◖◗",
            Self::Goal => "[]",
            Self::Path => "••",
            Self::Oracle => "∘∘",
        }
    }

    fn colour(self) -> Color {
        match self {
            Self::Floor(_) => Color::DarkMagenta,
            Self::Wall => Color::DarkGrey,
            Self::Door { .. } => Color::Yellow,
            Self::Agent | Self::Path => Color::Cyan,
            Self::Goal => Color::Green,
            Self::Oracle => Color::Red,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::recording, *};

    #[test]
    fn a_plain_frame_shows_the_maze_and_the_decision() {
        let recording = recording();
        let episode = &recording.episodes[0];
        let walk = &episode.walks[0];
        let lines = frame(&recording, episode, 0, Look::Plain);
        assert!(
            lines[0].starts_with("episode 1 (chosen), shortest path "),
            "{}",
            lines[0]
        );
        assert!(
            lines[2].starts_with("one ") && lines[2].ends_with("<two>"),
            "{}",
            lines[2]
        );
        let width = recording.grid.width;
        for (row, line) in lines[3..3 + recording.grid.height].iter().enumerate() {
            let glyphs: Vec<_> = walk
                .cells(0)
                .glyphs()
                .skip(row * width)
                .take(width)
                .collect();
            for (shown, glyph) in line.chars().zip(glyphs) {
                let expected = match glyph {
                    '#' => "#D",
                    '.' => ".o",
                    'A' => "A",
                    _ => "G",
                };
                assert!(expected.contains(shown), "{glyph} is shown as {shown}");
            }
        }
        let probabilities = walk.thought(0).expect("a model's").probabilities;
        let shown = lines
            .iter()
            .find(|line| line.starts_with("N "))
            .expect("a line");
        let north = format!("N {:.2} ", probabilities[0]);
        assert!(shown.starts_with(&north), "{shown}");
        let end = frame(&recording, episode, usize::MAX, Look::Plain);
        let ended = walk.state(episode.oracle.as_ref(), usize::MAX);
        assert!(end.iter().any(|line| line.starts_with(&ended)), "{end:?}");
        assert!(end.iter().all(|line| line.is_ascii()));
    }

    #[test]
    fn cells_of_blocks_are_two_columns_wide() {
        let blocks = [
            Drawn::Floor(0),
            Drawn::Floor(20),
            Drawn::Floor(100),
            Drawn::Floor(255),
            Drawn::Wall,
            Drawn::Door { shut: true },
            Drawn::Door { shut: false },
            Drawn::Agent,
            Drawn::Goal,
            Drawn::Path,
            Drawn::Oracle,
        ];
        for drawn in blocks {
            assert_eq!(drawn.block().chars().count(), 2, "{drawn:?}");
        }
    }
}
