//! `topics apply` while the registry or the broker is away for a moment: it goes on by itself, and no script around it
//! has to try again. The moment is as many attempts as are turned away, never a time.

use kontor_compose::eventually;
use kontor_compose::testing::Proxy;
use schemas::topics::{Target, Topology, apply, verify};

use crate::run;
use crate::support::{DEADLINE, in_own_prefix};

/// The pauses before the fifth attempt add up to one second and a half, those before the sixth to three.
const ATTEMPTS: usize = 5;

/// Mends a cut relay when it has refused so many connections.
async fn returns_after(proxy: &Proxy, attempts: usize) {
    let refused = || async { proxy.refused() >= attempts };
    eventually(DEADLINE, "it is tried again and again", refused).await.unwrap();
    proxy.mend();
}

/// The command, told of a target whose relay is cut until it has tried some times: exit code 0, and the cluster is as
/// declared.
async fn applies_through(proxy: Proxy, away: Target, target: Target, topology: Topology) {
    let prefix = topology.prefix.clone();
    let applying = tokio::task::spawn_blocking(move || run(&away, &["apply", "--prefix", &prefix]));
    returns_after(&proxy, ATTEMPTS).await;
    let (code, output) = applying.await.unwrap();
    assert_eq!(code, 0, "{}", String::from_utf8_lossy(&output.stderr));
    verify(&target, &topology).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s06_apply_waits_for_a_registry_that_comes_back() {
    in_own_prefix("registry-away", async |target, topology| {
        let (proxy, registry) = Proxy::to_url(&target.registry).unwrap();
        proxy.cut();
        let away = Target { registry, ..target.clone() };
        applies_through(proxy, away, target, topology).await;
    })
    .await;
}

/// The relay is only where the client begins: the broker then tells it its own address.
#[tokio::test(flavor = "multi_thread")]
async fn s06_apply_waits_for_a_broker_that_comes_back() {
    in_own_prefix("broker-away", async |target, topology| {
        let proxy = Proxy::start(&target.bootstrap).unwrap();
        proxy.cut();
        let away = Target { bootstrap: proxy.address.clone(), ..target.clone() };
        applies_through(proxy, away, target, topology).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s06_apply_goes_on_after_a_registry_that_went_away_between_two_schemas() {
    in_own_prefix("registry-leaves", async |target, topology| {
        let (proxy, registry) = Proxy::to_url(&target.registry).unwrap();
        let through = Target { registry, ..target.clone() };
        let mut was_cut = false;
        let leaves_once = |line: &str| {
            if !was_cut && line.starts_with("register the schema of") {
                was_cut = true;
                proxy.cut();
            }
        };
        // A level and a schema for each subject: what is left of them fails in the round that is under way, so the
        // next round, too, begins without a registry.
        let all = 2 * topology.subjects().count();
        let returns = returns_after(&proxy, all + ATTEMPTS);
        let (applied, ()) = tokio::join!(apply(&through, &topology, false, leaves_once), returns);
        let applied = applied.unwrap();
        assert_eq!(applied.actions.len(), topology.topics.len() + all, "each is told once");
        verify(&target, &topology).await.unwrap();
    })
    .await;
}
