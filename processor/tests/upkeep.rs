//! What an instance remembers of its own commits, when nobody asks for it. A program of its own, because it measures the
//! memory of its process.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use processor::query::http;
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_millis(1);
/// Values of one histogram; kept one by one they would take sixteen times as many bytes.
const VALUES: usize = 4 << 20;
const GROWTH_BYTES_MAX: usize = 16 << 20;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a round has to be due; that it was done shows in the memory alone")]
async fn values_that_nobody_asks_for_are_not_kept() {
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
    let ended = CancellationToken::new();
    let upkeep = tokio::spawn(http::upkeep(metrics.clone(), INTERVAL, ended.clone()));
    let before = resident_bytes();
    for _ in 0..256 {
        for _ in 0..VALUES / 256 {
            metrics::histogram!("kontor_commit_duration_seconds").record(0.004);
        }
        tokio::time::sleep(2 * INTERVAL).await;
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown <= GROWTH_BYTES_MAX, "{VALUES} values left {grown} bytes");
    assert!(metrics.render().contains(&format!("kontor_commit_duration_seconds_count {VALUES}")), "none is lost");
    ended.cancel();
    upkeep.await.unwrap();
}
