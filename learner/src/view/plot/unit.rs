//! Formats of numbers in tables and on axes.

use super::thousands;

/// The unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share, written in percent.
    Share,
    /// A ratio.
    Ratio,
    /// Frames of training.
    Frames,
    /// Minutes of training.
    Minutes,
    /// A count of something.
    Count,
    /// The logarithm to base 2 of a count, which is what an axis shows.
    Doublings,
}

impl Unit {
    /// Formats a value for a table.
    pub(crate) fn in_table(self, value: f64) -> String {
        match self {
            Self::Share => format!("{:.1}%", value * 100.0),
            Self::Ratio => format!("{value:.3}"),
            Self::Frames => format!("{:.0}k", value / 1000.0),
            Self::Minutes => format!("{value:.1}"),
            Self::Count | Self::Doublings => value.to_string(),
        }
    }

    /// Formats a value for an axis. Positions between two counts have no label.
    pub(crate) fn on_axis(self, value: f64) -> String {
        match self {
            Self::Share => format!("{:.0}%", value * 100.0),
            Self::Ratio => format!("{value:.1}"),
            Self::Frames => thousands(value),
            Self::Minutes => format!("{value:.0}"),
            Self::Count if value.fract().abs() < 1e-9 => format!("{value:.0}"),
            Self::Doublings if value.fract().abs() < 1e-9 => format!("{:.0}", value.exp2()),
            Self::Count | Self::Doublings => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let (share, ratio, frames) = (0.9876, 1.55555, 123_904.0);
        let in_table = [
            Unit::Share.in_table(share),
            Unit::Ratio.in_table(ratio),
            Unit::Frames.in_table(frames),
            Unit::Minutes.in_table(3.24),
        ];
        assert_eq!(in_table, ["98.8%", "1.556", "124k", "3.2"]);
        let on_axis = [
            Unit::Share.on_axis(share),
            Unit::Ratio.on_axis(ratio),
            Unit::Frames.on_axis(frames),
            Unit::Minutes.on_axis(3.24),
        ];
        assert_eq!(on_axis, ["99%", "1.6", "123.9k", "3"]);
    }

    #[test]
    fn half_a_count_has_no_label() {
        assert_eq!([2.0, 2.5].map(|x| Unit::Count.on_axis(x)), ["2", ""]);
    }
}
