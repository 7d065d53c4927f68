//! stub
#![allow(missing_docs)]
use std::io::Write;
#[derive(Debug)]
pub struct MetricsLog(std::fs::File);
#[derive(Debug, serde::Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Record {
    Train(TrainRecord),
    Eval(EvalRecord),
}
#[derive(Debug, serde::Serialize)]
pub struct TrainRecord {
    pub frames: u64,
    pub seconds: f64,
    pub updates: u64,
    pub version: u64,
    pub success: Option<f64>,
    pub episode_return: Option<f64>,
    pub length: Option<f64>,
    pub path_ratio: Option<f64>,
    pub policy_lag_mean: Option<f64>,
    pub frames_per_second: f64,
    pub updates_per_second: f64,
    pub loss_policy: f64,
    pub loss_value: f64,
    pub entropy: f64,
    pub grad_norm: f64,
    pub rho_clip: f64,
    pub c_clip: f64,
    pub learning_rate: f64,
    pub curriculum_distance: u32,
}
#[derive(Debug, serde::Serialize)]
pub struct EvalRecord {
    pub frames: u64,
    pub seconds: f64,
    pub updates: u64,
    pub evaluation: crate::evaluate::Evaluation,
}
impl EvalRecord {
    pub fn new(frames: u64, seconds: f64, updates: u64, e: &crate::evaluate::Evaluation) -> Self {
        Self {
            frames,
            seconds,
            updates,
            evaluation: e.clone(),
        }
    }
}
impl MetricsLog {
    pub fn open(p: &std::path::Path, _frames: u64) -> std::io::Result<Self> {
        Ok(Self(
            std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(p)?,
        ))
    }
    pub fn append(&mut self, r: &Record) -> std::io::Result<()> {
        serde_json::to_writer(&self.0, r)?;
        self.0.write_all(b"\n")
    }
}
