//! The one place that reads clocks; the model gets time as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bindy_model::Now;

/// Time since the engine started, and of the calendar.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // Serials are 32 bits wide and wrap around in the year 2106.
        Now { monotonic: self.started.elapsed(), unix: (unix & u64::from(u32::MAX)) as u32 }
    }

    /// The instant at which the monotonic time is `at`.
    pub(crate) fn instant(&self, at: std::time::Duration) -> tokio::time::Instant {
        (self.started + at).into()
    }
}

/// Sleeps until that instant; for ever when there is none.
pub async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
