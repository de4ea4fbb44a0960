//! Waiting for a condition, never for a time.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::process::LOOK_INTERVAL;

/// Asks again until `condition` is true; an error that names `what` when it was not within `deadline`.
pub async fn eventually<F, C>(deadline: Duration, what: &str, mut condition: F) -> Result<()>
where
    F: FnMut() -> C,
    C: Future<Output = bool>,
{
    eventually_some(deadline, what, || {
        let asked = condition();
        async move { asked.await.then_some(()) }
    })
    .await
}

/// Asks again until there is an answer.
pub async fn eventually_some<T, F, C>(deadline: Duration, what: &str, mut ask: F) -> Result<T>
where
    F: FnMut() -> C,
    C: Future<Output = Option<T>>,
{
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        if began.elapsed() >= deadline {
            return Err(Error::Deadline { what: what.to_string(), waited_ms: began.elapsed().as_millis() });
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_answer_or_the_name_of_what_did_not_happen() {
        let mut asked = 0;
        let answer = eventually_some(Duration::from_secs(10), "three", || {
            asked += 1;
            let now = asked;
            async move { (now == 3).then_some(now) }
        });
        assert_eq!(answer.await.unwrap(), 3);
        let never = eventually(Duration::from_millis(30), "the moon falls", || async { false });
        let message = never.await.unwrap_err().to_string();
        assert!(message.contains("the moon falls"), "{message}");
    }
}
