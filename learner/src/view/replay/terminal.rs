//! Plays a replay in the terminal.

use std::{
    io::{self, IsTerminal as _, Write},
    ops::RangeInclusive,
    thread,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    execute, queue,
    style::{Print, force_color_output},
    terminal::{
        Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen,
        LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
    },
};
use hrm_common::{
    output::{self, OutputError},
    telemetry,
};

use super::{
    recording::Recording,
    text::{Look, frame},
};

const HELP: &str = "space play or pause   ← → step   ↑ ↓ episode   + - speed   q quit";
/// Possible speeds of a replay, in steps per second.
pub(crate) const SPEEDS: RangeInclusive<f64> = 0.1..=50.0;
/// Longest time until a signal is noticed.
const NOTICE: Duration = Duration::from_millis(100);
/// Ticks for which a finished episode stays before the next one begins.
const REST: usize = 4;

/// Shows a recording on standard output: a player where that is a terminal, frame by frame at each Enter on a dumb
/// terminal, and all frames one after another elsewhere. `speed` is in steps per second. Ends when `stop` requests it.
///
/// # Errors
///
/// Returns an error when the terminal or standard output fails.
pub(crate) fn show(
    recording: &Recording,
    speed: f64,
    stop: impl Fn() -> bool,
) -> anyhow::Result<()> {
    let terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    if !terminal {
        return Ok(print(recording, || Ok(!stop()))?);
    }
    if std::env::var_os("TERM").is_none_or(|name| name == "dumb") {
        let lines = typed_lines()?;
        return Ok(print(recording, || {
            output::print("Enter for the next frame, q to quit: ")?;
            Ok(next_line(&lines, &stop).is_some_and(|line| line.trim() != "q"))
        })?);
    }
    force_color_output(telemetry::stdout_shows_colours());
    let mut screen = RawScreen::open()?;
    TerminalPlayer::new(recording, speed).run(&mut screen.0, stop)?;
    Ok(())
}

/// Prints all frames. Calls `proceed` after each frame, and ends when it returns false.
fn print(
    recording: &Recording,
    mut proceed: impl FnMut() -> Result<bool, OutputError>,
) -> Result<(), OutputError> {
    for episode in &recording.episodes {
        for step in 0..=episode.length() {
            let lines = frame(recording, episode, step, Look::Plain);
            output::print_line(lines.join("\n") + "\n")?;
            if !proceed()? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Receives the lines of standard input. They are read on a thread of their own, because a signal does not end a read.
fn typed_lines() -> io::Result<Receiver<String>> {
    let (sender, lines) = bounded(0);
    thread::Builder::new()
        .name("keyboard".into())
        .spawn(move || {
            for line in io::stdin().lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })?;
    Ok(lines)
}

/// Waits for a line. Returns `None` at the end of the input, and when `stop` requests it.
fn next_line(lines: &Receiver<String>, stop: &impl Fn() -> bool) -> Option<String> {
    while !stop() {
        match lines.recv_timeout(NOTICE) {
            Ok(line) => return Some(line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    None
}

/// The terminal in raw mode, on its alternate screen, until it is dropped.
struct RawScreen(io::Stdout);

impl RawScreen {
    fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        let mut screen = Self(io::stdout());
        execute!(screen.0, EnterAlternateScreen, Hide, DisableLineWrap)?;
        Ok(screen)
    }
}

impl Drop for RawScreen {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that fails here.
        let _ = execute!(self.0, EnableLineWrap, Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// The state of the player.
struct TerminalPlayer<'a> {
    recording: &'a Recording,
    episode: usize,
    step: usize,
    playing: bool,
    speed: f64,
    rested: usize,
}

impl<'a> TerminalPlayer<'a> {
    fn new(recording: &'a Recording, speed: f64) -> Self {
        Self {
            recording,
            episode: 0,
            step: 0,
            playing: true,
            speed,
            rested: 0,
        }
    }

    fn run(&mut self, out: &mut impl Write, stop: impl Fn() -> bool) -> io::Result<()> {
        let mut drawn = Instant::now();
        self.draw(out)?;
        while !stop() {
            let tick = Duration::from_secs_f64(1.0 / self.speed);
            let left = tick.saturating_sub(drawn.elapsed());
            let wait = if self.playing {
                left.min(NOTICE)
            } else {
                NOTICE
            };
            if event::poll(wait)? {
                match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        if !self.press(key) {
                            return Ok(());
                        }
                    }
                    Event::Resize(..) => {}
                    _ => continue,
                }
            } else if self.playing && drawn.elapsed() >= tick {
                self.tick();
            } else {
                continue;
            }
            drawn = Instant::now();
            self.draw(out)?;
        }
        Ok(())
    }

    /// Heeds a key. Returns false when it quits.
    fn press(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c' | 'd') if control => return false,
            KeyCode::Char(' ') => self.playing = !self.playing,
            KeyCode::Right => self.go(self.step + 1),
            KeyCode::Left => self.go(self.step.saturating_sub(1)),
            KeyCode::Home => self.go(0),
            KeyCode::End => self.go(usize::MAX),
            KeyCode::Down | KeyCode::Char('n') => self.change(self.episode + 1),
            KeyCode::Up | KeyCode::Char('p') => self.change(self.episode.saturating_sub(1)),
            KeyCode::Char('+' | '=') => self.speed = (self.speed * 2.0).min(*SPEEDS.end()),
            KeyCode::Char('-') => self.speed = (self.speed / 2.0).max(*SPEEDS.start()),
            _ => {}
        }
        true
    }

    /// Pauses at a step.
    fn go(&mut self, step: usize) {
        self.playing = false;
        self.step = step.min(self.recording.episodes[self.episode].length());
    }

    fn change(&mut self, episode: usize) {
        self.episode = episode.min(self.recording.episodes.len() - 1);
        self.step = 0;
        self.rested = 0;
    }

    fn tick(&mut self) {
        if self.step < self.recording.episodes[self.episode].length() {
            self.step += 1;
        } else if self.rested < REST {
            self.rested += 1;
        } else {
            self.change((self.episode + 1) % self.recording.episodes.len());
        }
    }

    fn draw(&self, out: &mut impl Write) -> io::Result<()> {
        let episodes = &self.recording.episodes;
        let episode = &episodes[self.episode];
        let mut lines = frame(self.recording, episode, self.step, Look::Blocks);
        let state = if self.playing { "playing" } else { "paused" };
        lines.push(String::new());
        lines.push(format!(
            "{state}, {} steps/s, episode {} of {}",
            self.speed,
            self.episode + 1,
            episodes.len()
        ));
        lines.push(HELP.to_owned());
        for (row, line) in (0..).zip(&lines) {
            queue!(
                out,
                MoveTo(0, row),
                Print(line),
                Clear(ClearType::UntilNewLine)
            )?;
        }
        queue!(out, Clear(ClearType::FromCursorDown))?;
        out.flush()
    }
}
