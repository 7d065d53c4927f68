//! The kinds of metrics: constants whose type says what they are and which label they take.

use std::marker::PhantomData;

use metrics::Unit;

use super::labels::{Labelled, Role, Unlabelled};

/// What is known about a metric before it has a value.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The name, as scraped.
    pub name: &'static str,
    /// What it counts or measures.
    pub help: &'static str,
    /// In what.
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

            /// The name, as scraped.
            pub const fn name(&self) -> &'static str {
                self.name
            }

            /// The handle for one value of the label.
            pub fn with(&self, label: L) -> metrics::$handle {
                metrics::$macro!(self.name, label.labels())
            }
        }

        impl $kind {
            /// The handle.
            pub fn get(&self) -> metrics::$handle {
                self.with(Unlabelled)
            }
        }
    };
}

kind! {
    /// Something that only rises.
    Counter, Counter, counter
}
kind! {
    /// Something that rises and falls.
    Gauge, Gauge, gauge
}
kind! {
    /// Something whose distribution matters.
    Histogram, Histogram, histogram
}

impl<L: Labelled> Counter<L> {
    pub(super) fn describe(name: &'static str, unit: Unit, help: &'static str) {
        metrics::describe_counter!(name, unit, help);
    }

    /// A counter that is not there until the first time is one whose first rise no rate can see.
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
    /// Whether a process in this role has this metric.
    pub(super) fn belongs_to(&self, role: Role) -> bool {
        self.name.starts_with(&format!("hrm_{}_", role.as_str()))
    }
}
