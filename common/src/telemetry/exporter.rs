//! The Prometheus endpoint.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use thiserror::Error;
use tokio::{sync::watch, task::JoinHandle, time};

use super::names::{self, Role};
use crate::{
    connections::{Connections, Limits},
    http1,
    listen::{self, ListenError},
    shutdown::Shutdown,
};

/// Upper bounds in seconds, from a tenth of a tick of the small model to the save of a large model.
const STAGE_BUCKETS: [f64; 14] = [
    1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0,
];

/// Upper bounds in versions, one per batch. `learner.max_policy_lag_batches` is 8 by default.
const LAG_BUCKETS: [f64; 12] = [
    0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0,
];

/// Upper bounds in segments. Decisions have at most 255, and most models few.
const SEGMENT_BUCKETS: [f64; 10] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 16.0, 32.0, 64.0];

/// Time between two drains of the histograms, which keep every sample until then.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Longest time that the end of a process waits for a scraper to read its last values: two of Prometheus's default
/// intervals in most installations, and shorter than Kubernetes's default grace period.
const LAST_SCRAPE: Duration = Duration::from_secs(30);

/// Time for a scrape under way at the end to receive its answer.
const ANSWER: Duration = Duration::from_secs(1);

/// The `Content-Type` of Prometheus's text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The error that prevents the endpoint.
#[derive(Debug, Error)]
pub enum ExporterError {
    /// The address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The recorder cannot be built, or a recorder is already installed.
    #[error("cannot record metrics: {0}")]
    Recorder(BuildError),
}

impl From<BuildError> for ExporterError {
    fn from(error: BuildError) -> Self {
        Self::Recorder(error)
    }
}

/// A running endpoint; it stops when dropped.
#[derive(Debug)]
pub struct Exporter {
    address: SocketAddr,
    /// Number of scrapes so far.
    scrapes: watch::Receiver<u64>,
    closing: Shutdown,
    task: JoinHandle<()>,
}

impl Exporter {
    /// The address that serves `/metrics`, with the actual port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the endpoint once a scraper has read the final values. A process that ends between two scrapes would
    /// otherwise leave no trace of its last seconds, such as the reason why training failed. Does not wait if nobody
    /// has asked before, longer than 30 s, or when `stop` trips.
    pub async fn finish(mut self, stop: &Shutdown) {
        if *self.scrapes.borrow_and_update() > 0 && !stop.is_tripped() {
            tracing::info!(
                seconds = LAST_SCRAPE.as_secs(),
                "waiting until Prometheus has read the last metrics, at most this long"
            );
            tokio::select! {
                _ = self.scrapes.changed() => {}
                () = time::sleep(LAST_SCRAPE) => {}
                () = stop.tripped() => {}
            }
        }
        self.closing.trip();
        if time::timeout(ANSWER, &mut self.task).await.is_err() {
            tracing::debug!("a metrics connection was still open at the end");
        }
    }

    /// Binds `address` (`key` in the configuration) and serves the metrics of `recorder`.
    async fn serve(
        recorder: PrometheusHandle,
        address: SocketAddr,
        key: &'static str,
    ) -> Result<Self, ExporterError> {
        let (listener, address) = listen::bind(address, key, listen::OPTIONAL).await?;
        let process = metrics_process::Collector::default();
        let scraped = recorder.clone();
        let (count, scrapes) = watch::channel(0);
        let render = move || async move {
            process.collect();
            let text = scraped.render();
            count.send_modify(|scrapes| *scrapes += 1);
            ([(CONTENT_TYPE, TEXT_FORMAT)], text)
        };
        let mut connections = Connections::new(listener, key, Limits::SIDE_PORT);
        let pages = Router::new().route("/metrics", get(render));
        let closing = Shutdown::new();
        let next = async move || connections.next().await.ok();
        let server = http1::answer_all(next, pages, closing.clone());
        let upkeep = async move {
            let mut interval = time::interval(UPKEEP_INTERVAL);
            loop {
                interval.tick().await;
                recorder.run_upkeep();
            }
        };
        let task = tokio::spawn(async move {
            tokio::select! {
                () = server => {}
                () = upkeep => {}
            }
        });
        Ok(Self {
            address,
            scrapes,
            closing,
            task,
        })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Records the metrics of this process from now on and serves them at `http://ADDRESS/metrics`. Does neither without an
/// address. Must be called within a tokio runtime, once in a process.
///
/// `key` is the address's key in the configuration, for the error message.
///
/// # Errors
///
/// [`ExporterError::Listen`] when the address cannot be bound; nothing is recorded then.
pub async fn serve_metrics(
    address: Option<SocketAddr>,
    key: &'static str,
    roles: &[Role],
) -> Result<Option<Exporter>, ExporterError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let recorder = builder()?.build_recorder();
    let exporter = Exporter::serve(recorder.handle(), address, key).await?;
    metrics::set_global_recorder(recorder).map_err(BuildError::from)?;
    names::register(roles);
    metrics_process::Collector::default().describe();
    tracing::info!(address = %exporter.address(), "serving /metrics");
    Ok(Some(exporter))
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    let stage = |name: &str| Matcher::Full(name.to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(stage(names::ACTOR_STAGE_SECONDS.name()), &STAGE_BUCKETS)?
        .set_buckets_for_metric(stage(names::LEARNER_STAGE_SECONDS.name()), &STAGE_BUCKETS)?
        .set_buckets_for_metric(stage(names::LEARNER_SEGMENTS.name()), &SEGMENT_BUCKETS)?
        .set_buckets_for_metric(stage(names::LEARNER_POLICY_LAG.name()), &LAG_BUCKETS)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Ipv4Addr, TcpStream},
    };

    use super::*;
    use crate::telemetry::names::LearnerStage;

    const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn request(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("a listener");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn recorded_metrics_are_served_at_the_bound_port() {
        let recorder = builder().expect("buckets").build_recorder();
        metrics::with_local_recorder(&recorder, || {
            names::register(&[Role::Learner]);
            names::LEARNER_POLICY_LAG.get().record(3.0);
            names::LEARNER_STAGE_SECONDS
                .with(LearnerStage::Passes)
                .record(Duration::from_millis(20));
        });
        let exporter = Exporter::serve(recorder.handle(), ANY_PORT, "learner.metrics_listen")
            .await
            .expect("free");
        assert_ne!(exporter.address().port(), 0);

        let answer = request(exporter.address(), "/metrics");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for line in [
            "content-type: text/plain; version=0.0.4",
            "hrm_learner_updates_total 0",
            "hrm_learner_policy_lag_versions_bucket{le=\"2\"} 0",
            "hrm_learner_policy_lag_versions_bucket{le=\"4\"} 1",
            "hrm_learner_stage_seconds_bucket{stage=\"passes\",le=\"0.01\"} 0",
            "hrm_learner_stage_seconds_bucket{stage=\"passes\",le=\"0.03\"} 1",
            "hrm_learner_stage_seconds_sum{stage=\"passes\"} 0.02",
        ] {
            assert!(answer.contains(line), "{line} in {answer}");
        }
        assert!(request(exporter.address(), "/").starts_with("HTTP/1.1 404"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_exporter_waits_for_the_last_scrape_of_a_known_scraper() {
        let recorder = builder().expect("buckets").build_recorder();
        let exporter = Exporter::serve(recorder.handle(), ANY_PORT, "learner.metrics_listen")
            .await
            .expect("free");
        let address = exporter.address();
        request(address, "/metrics");
        metrics::with_local_recorder(&recorder, || {
            names::register(&[Role::Learner]);
            names::LEARNER_UPDATES_SKIPPED.get().increment(7);
        });
        let stop = Shutdown::new();
        let mut end = tokio::spawn(async move { exporter.finish(&stop).await });
        let early = time::timeout(Duration::from_millis(100), &mut end).await;
        assert!(early.is_err(), "it ended before the last scrape");

        let answer = request(address, "/metrics");
        let last = "hrm_learner_updates_skipped_total 7";
        assert!(answer.contains(last), "{answer}");
        end.await.expect("ended");
        assert!(TcpStream::connect(address).is_err(), "it still listens");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_exporter_ends_at_once_without_a_scraper_or_when_asked_to_stop() {
        let recorder = builder().expect("buckets").build_recorder();
        let serve = || Exporter::serve(recorder.handle(), ANY_PORT, "learner.metrics_listen");
        let patience = LAST_SCRAPE / 2;
        let alone = serve().await.expect("free");
        time::timeout(patience, alone.finish(&Shutdown::new()))
            .await
            .expect("nobody has asked");

        let stopped = serve().await.expect("free");
        request(stopped.address(), "/metrics");
        let stop = Shutdown::new();
        let end = tokio::spawn({
            let stop = stop.clone();
            async move { stopped.finish(&stop).await }
        });
        stop.trip();
        time::timeout(patience, end)
            .await
            .expect("asked to stop")
            .expect("no panic");
    }
}
