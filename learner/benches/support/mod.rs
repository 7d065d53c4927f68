//! Rates of several sides, measured in turn.
//!
//! The sides alternate, a short round each, and a ratio is the median of the rounds' ratios: other work on the machine
//! slows all of them alike.

#![allow(clippy::print_stdout, reason = "the measurements are the output")]

use std::time::{Duration, Instant};

use hrm_common::{
    env::Grid,
    model::{Mixing, ModelConfig},
};
use hrm_kernels::peak;

/// One side: its name and its step.
pub(crate) type Side<'a> = (&'a str, &'a mut dyn FnMut());

/// A comparison: everything that its sides have in common.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// Units per step.
    pub(crate) units: usize,
    /// Multiplications and additions of the products of one unit.
    pub(crate) operations: f64,
    /// True when the measured peak is that of products in bfloat16.
    pub(crate) bf16: bool,
    /// Cores that the sides use. The peak is measured on one.
    pub(crate) cores: usize,
    pub(crate) rounds: usize,
    /// Time of one side in a round; at least one step is made.
    pub(crate) round: Duration,
}

/// Returns the multiplications and additions of the products of one decision.
pub(crate) fn operations(config: &ModelConfig, grid: Grid) -> f64 {
    let (d, inner, cells) = (config.hidden, config.inter(), grid.len());
    let positions = cells + 1;
    let swiglu = 3 * d * inner * positions;
    let mixing = match config.mixing {
        Mixing::Conv => 9 * d * d * cells + d * d,
        Mixing::Attention => 4 * d * d * positions + 2 * positions * positions * d,
    };
    let blocks = config.segments.most
        * config.h_cycles
        * (config.h_layers + config.l_cycles * config.l_layers);
    2.0 * (blocks * (swiglu + mixing)) as f64
}

/// Returns the share of a decision's operations that the gradient of its last call of L and of H takes, in each
/// segment: backward, a call costs twice its forward pass.
pub(crate) fn gradient_share(config: &ModelConfig) -> f64 {
    let last = config.h_layers + config.l_layers;
    let all = config.h_cycles * (config.h_layers + config.l_cycles * config.l_layers);
    2.0 * last as f64 / all as f64
}

/// Returns units per second.
fn rate(case: &Case, step: &mut dyn FnMut()) -> f64 {
    let began = Instant::now();
    let mut units = 0;
    while units == 0 || began.elapsed() < case.round {
        step();
        units += case.units;
    }
    units as f64 / began.elapsed().as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Times the sides in turn, and prints the median rates. Ratios are over the last side, the share of the peak is the
/// first side's.
pub(crate) fn compare(case: &Case, sides: &mut [Side<'_>]) {
    for (_, step) in &mut *sides {
        step();
    }
    let rounds: Vec<(Vec<f64>, f64)> = (0..case.rounds)
        .map(|_| {
            let rates = sides.iter_mut().map(|(_, step)| rate(case, step));
            (rates.collect(), peak(case.bf16))
        })
        .collect();
    let last = sides.len() - 1;
    let rates = sides.iter().enumerate().map(|(at, (name, _))| {
        let rate = median(rounds.iter().map(|(rates, _)| rates[at]));
        let ratio = median(rounds.iter().map(|(rates, _)| rates[at] / rates[last]));
        let ratio = match at == last {
            true => String::new(),
            false => format!(" ({ratio:.2} x {})", sides[last].0),
        };
        format!("{name} {rate:.0} {}/s{ratio}", case.unit)
    });
    let rates: Vec<String> = rates.collect();
    let share = median(rounds.iter().map(|(rates, peak)| rates[0] / peak)) * case.operations;
    println!(
        "{}: {}; {} at {:.0}% of the measured peak, {} x {:.0} GFLOP/s",
        case.name,
        rates.join(", "),
        sides[0].0,
        100.0 * share / case.cores as f64,
        case.cores,
        median(rounds.iter().map(|(_, peak)| *peak)) / 1e9,
    );
}
