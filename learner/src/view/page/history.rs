//! The records so far, in bounded memory.

use bytes::Bytes;

/// Events of one kind, at most so many of them. It keeps every `stride`-th one and the newest.
#[derive(Debug)]
pub(super) struct History {
    kept: Vec<Bytes>,
    /// Largest number of events in `kept`.
    most: usize,
    stride: usize,
    seen: usize,
    /// The newest event, if it is not in `kept`.
    newest: Option<Bytes>,
}

impl History {
    /// Creates a history of at most `most` events and the newest.
    pub(super) fn new(most: usize) -> Self {
        Self {
            kept: Vec::new(),
            most,
            stride: 1,
            seen: 0,
            newest: None,
        }
    }

    /// Adds an event. When the history is full, every second event of it is removed.
    pub(super) fn push(&mut self, event: Bytes) {
        if self.kept.len() == self.most {
            let mut at = 0;
            self.kept.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride *= 2;
        }
        self.newest = if self.seen.is_multiple_of(self.stride) {
            self.kept.push(event);
            None
        } else {
            Some(event)
        };
        self.seen += 1;
    }

    /// Returns the events, oldest first.
    pub(super) fn events(&self) -> impl Iterator<Item = &Bytes> {
        self.kept.iter().chain(&self.newest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(history: &History) -> Vec<usize> {
        let number = |event: &Bytes| String::from_utf8_lossy(event).parse().expect("a number");
        history.events().map(number).collect()
    }

    proptest! {
        #[test]
        fn a_history_is_bounded_evenly_spaced_and_ends_with_the_newest(
            most in 2_usize..20,
            count in 1_usize..500,
        ) {
            let mut history = History::new(most);
            for number in 0..count {
                history.push(Bytes::from(number.to_string()));
            }
            let numbers = numbers(&history);
            prop_assert!(numbers.len() <= most + 1);
            prop_assert!(numbers.len() >= most.min(count) / 2);
            prop_assert_eq!(numbers.first(), Some(&0));
            prop_assert_eq!(numbers.last(), Some(&(count - 1)));
            let (_, even) = numbers.split_last().expect("not empty");
            let gaps: Vec<usize> = even.windows(2).map(|pair| pair[1] - pair[0]).collect();
            prop_assert!(gaps.windows(2).all(|pair| pair[0] == pair[1]), "{:?}", numbers);
        }
    }
}
