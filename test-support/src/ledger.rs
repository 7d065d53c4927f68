//! The content of a run's `ledger.jsonl`.

use std::{collections::HashMap, fs, path::Path};

use hrm_learner::storage::ledger_file::Entry;

/// All lines, after making sure that each session's balances.
pub fn balanced(dir: &Path) -> Vec<Entry> {
    let text = fs::read_to_string(dir.join("ledger.jsonl")).expect("a ledger");
    let entry = |line| serde_json::from_str(line).expect("an entry");
    let entries: Vec<Entry> = text.lines().map(entry).collect();
    for entry in &entries {
        if let Entry::Session {
            received,
            refused,
            admitted,
            trained,
            dropped,
            ..
        } = entry
        {
            assert_eq!(*received, refused + admitted, "{entry:?}");
            let settled = trained + dropped.values().sum::<u64>();
            assert_eq!(*admitted, settled, "{entry:?}");
        }
    }
    entries
}

/// The sessions' lines by session, after making sure that each balances.
pub fn balanced_sessions(dir: &Path) -> HashMap<String, Entry> {
    let mut sessions = HashMap::new();
    for entry in balanced(dir) {
        if let Entry::Session { session, .. } = &entry {
            let again = sessions.insert(session.clone(), entry.clone());
            assert!(again.is_none(), "{session} stands twice");
        }
    }
    sessions
}
