//! The types of metrics: counter, gauge and histogram, each with its label.

use std::marker::PhantomData;

use metrics::Unit;

use super::labels::{Labelled, Role, Unlabelled};

/// The description of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The name in Prometheus.
    pub name: &'static str,
    /// The help text.
    pub help: &'static str,
    /// The unit.
    pub unit: Unit,
    pub(super) describe: fn(&'static str, Unit, &'static str),
    pub(super) start: fn(&'static str),
}

macro_rules! kind {
    ($(#[$doc:meta])* $kind:ident, $handle:ident, $macro:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $kind<L = Unlabelled> {
            name: &'static str,
            label: PhantomData<fn(L)>,
        }

        impl<L: Labelled> $kind<L> {
            pub(super) const fn new(name: &'static str) -> Self {
                Self { name, label: PhantomData }
            }

            /// The name in Prometheus.
            pub const fn name(&self) -> &'static str {
                self.name
            }

            /// Returns the handle for one value of the label.
            pub fn with(&self, label: L) -> metrics::$handle {
                metrics::$macro!(self.name, label.labels())
            }
        }

        impl $kind {
            /// Returns the handle.
            pub fn get(&self) -> metrics::$handle {
                self.with(Unlabelled)
            }
        }
    };
}

kind! {
    /// A number that only rises.
    Counter, Counter, counter
}
kind! {
    /// A number that rises and falls.
    Gauge, Gauge, gauge
}
kind! {
    /// A distribution of numbers.
    Histogram, Histogram, histogram
}

impl<L: Labelled> Counter<L> {
    pub(super) fn describe(name: &'static str, unit: Unit, help: &'static str) {
        metrics::describe_counter!(name, unit, help);
    }

    /// Starts the counters at 0. Prometheus cannot compute a rate from the first increase of a new counter.
    pub(super) fn start(name: &'static str) {
        for label in L::known() {
            Self::new(name).with(label).absolute(0);
        }
    }
}

impl<L> Gauge<L> {
    pub(super) fn describe(name: &'static str, unit: Unit, help: &'static str) {
        metrics::describe_gauge!(name, unit, help);
    }

    pub(super) fn start(_: &'static str) {}
}

impl<L> Histogram<L> {
    pub(super) fn describe(name: &'static str, unit: Unit, help: &'static str) {
        metrics::describe_histogram!(name, unit, help);
    }

    pub(super) fn start(_: &'static str) {}
}

impl Description {
    /// True when a process in this role has this metric.
    pub(super) fn belongs_to(&self, role: Role) -> bool {
        self.name.starts_with(&format!("hrm_{}_", role.as_str()))
    }
}
