//! Waiting for what is not there yet: always for a condition, with an end.

use crate::scale;
use anyhow::{Context as _, Result};
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Asks until the answer is what is waited for; an error of `ask` says what was seen instead. The last of them is told where
/// `seconds`, scaled, are over.
pub(crate) async fn eventually<T>(
    what: &str,
    seconds: u64,
    mut ask: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let limit = scale::seconds(seconds);
    let end = Instant::now() + limit;
    loop {
        match ask().await {
            Ok(found) => return Ok(found),
            Err(seen) if Instant::now() >= end => {
                return Err(seen).with_context(|| format!("waited {} s in vain for {what}", limit.as_secs()));
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;

    #[tokio::test]
    async fn what_was_seen_last_is_told() {
        let mut looks = 0;
        let found = eventually("three", 60, async || {
            looks += 1;
            ensure!(looks == 3, "{looks}");
            Ok(looks)
        });
        assert_eq!(found.await.unwrap(), 3);
        let never = eventually("a miracle", 0, async || -> Result<()> { anyhow::bail!("nothing") });
        assert_eq!(format!("{:#}", never.await.unwrap_err()), "waited 0 s in vain for a miracle: nothing");
    }
}
