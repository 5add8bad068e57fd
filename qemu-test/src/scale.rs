//! Time limits. Written for the emulated processors of an idle two-core machine; `LQ_E2E_SLOWNESS` (a factor, 1 where absent)
//! stretches them on slower ones. A limit only ends a wait that has failed: what is waited for is always a condition.

use std::{sync::OnceLock, time::Duration};

/// The factor.
pub(crate) fn factor() -> f64 {
    static FACTOR: OnceLock<f64> = OnceLock::new();
    *FACTOR.get_or_init(|| {
        std::env::var("LQ_E2E_SLOWNESS")
            .ok()
            .and_then(|v| v.parse().ok())
            .filter(|f: &f64| f.is_finite() && *f > 0.0)
            .unwrap_or(1.0)
    })
}

/// `n` seconds, scaled.
pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n).mul_f64(factor())
}
