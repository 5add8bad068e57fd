//! Time limits. Written for the emulated processors of an idle two-core machine; `LQ_E2E_SLOWNESS` (a factor, 1 where absent)
//! stretches them on slower ones, and so does sharing the machine with other tests. A limit only ends a wait that has failed:
//! what is waited for is always a condition.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// How many groups of tests run at once.
static SHARES: AtomicU32 = AtomicU32::new(1);

/// From now on so many groups of tests run at once; each is that much slower, at most.
pub(crate) fn shared_by(groups: usize) {
    SHARES.store(u32::try_from(groups).unwrap_or(u32::MAX).max(1), Ordering::Relaxed);
}

/// The factor.
fn factor() -> f64 {
    static SLOWNESS: OnceLock<f64> = OnceLock::new();
    let slowness = *SLOWNESS.get_or_init(|| {
        std::env::var("LQ_E2E_SLOWNESS")
            .ok()
            .and_then(|v| v.parse().ok())
            .filter(|f: &f64| f.is_finite() && *f > 0.0)
            .unwrap_or(1.0)
    });
    slowness * f64::from(SHARES.load(Ordering::Relaxed))
}

/// `n` seconds, scaled.
pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n).mul_f64(factor())
}
