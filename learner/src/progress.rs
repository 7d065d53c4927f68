//! stub
#![allow(missing_docs)]
#[derive(Debug)]
pub struct Progress;
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub frames: u64,
    pub seconds: f64,
    pub updates: u64,
    pub frames_per_second: f64,
    pub updates_per_second: f64,
    pub success: Option<f64>,
    pub episode_return: Option<f64>,
    pub length: Option<f64>,
    pub path_ratio: Option<f64>,
    pub policy_lag: Option<f64>,
    pub curriculum_distance: u32,
    pub entropy: f64,
}
impl Progress {
    pub fn new(_: &hrm_common::config::TelemetryConfig, _: u64) -> Self {
        Self
    }
    pub fn writer(&self) -> fn() -> std::io::Stderr {
        std::io::stderr
    }
    pub fn update(&self, s: &Snapshot) {
        use std::sync::atomic::{AtomicU64, Ordering};
        static LAST: AtomicU64 = AtomicU64::new(0);
        if (s.seconds as u64) >= LAST.load(Ordering::Relaxed) + 10 {
            LAST.store(s.seconds as u64, Ordering::Relaxed);
            eprintln!(
                "{:.0}s frames {} fps {:.0} success {:?} ratio {:?} lag {:?} K {} ent {:.3}",
                s.seconds,
                s.frames,
                s.frames_per_second,
                s.success,
                s.path_ratio,
                s.policy_lag,
                s.curriculum_distance,
                s.entropy
            );
        }
    }
}
